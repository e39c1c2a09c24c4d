"""Property values as the engine holds them: JSON, with signed objects for the special ones.

A secret is `{SIGNATURE: SECRET, "value": …}` in memory and on the wire, `{SIGNATURE: SECRET,
"ciphertext": …}` in a state file. A value that a preview cannot know is one of Pulumi's sentinel
strings. Output values (a value with its dependencies) are lowered on entry to a plain value, a
secret or the sentinel. Assets and archives are refused.

Source: the constants of `pulumi.runtime.rpc`, and the deployment format of Pulumi (version 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from google.protobuf import struct_pb2

from .errors import UnsupportedError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Properties: TypeAlias = dict[str, Json]

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 a type tag, not a credential
OUTPUT_VALUE = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
ASSETS = {
    "c44067f5952c0a294b673a41bacd8c17": "assets",
    "0def7320c3a5731c473e5ecbe6d01bc7": "archives",
}
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# Pulumi has one sentinel per type of value; SDKs in use send the first.
UNKNOWNS = frozenset(
    {
        UNKNOWN,
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
# Integers above this do not survive the protocol's double, so they are left as they arrive.
_INTEGER_EXACT_MAX = 2**53


def from_struct(message: struct_pb2.Struct) -> Properties:
    """The properties of a protobuf struct: nulls dropped, whole numbers as integers.

    Raises:
        UnsupportedError: it holds an asset or an archive.
    """
    properties = {key: _from_value(value) for key, value in message.fields.items()}
    return {key: value for key, value in properties.items() if value is not None}


def to_struct(properties: Mapping[str, Json]) -> struct_pb2.Struct:
    """The protobuf struct of `properties`."""
    message = struct_pb2.Struct()
    message.update(properties)
    return message


def is_secret(value: Json) -> bool:
    """Whether `value` itself is a secret."""
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def secret(value: Json) -> Json:
    """`value` as a secret; a secret stays as it is."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": value}


def plain(value: Json) -> Json:
    """`value` with the secrets in it opened."""

    def change(part: Json) -> Json:
        while isinstance(part, dict) and is_secret(part):
            part = part.get("value")
        return part

    return transform(value, change)


def plain_properties(properties: Mapping[str, Json]) -> Properties:
    """`properties` with the secrets in them opened."""
    return {key: plain(value) for key, value in properties.items()}


def has_secret(value: Json) -> bool:
    """Whether `value` is or contains a secret."""
    return any(is_secret(part) for part in walk(value))


def has_unknown(value: Json) -> bool:
    """Whether `value` is or contains something that only an update will know."""
    return any(isinstance(part, str) and part in UNKNOWNS for part in walk(value))


def keep_secrets(new: Properties, old: Mapping[str, Json]) -> Properties:
    """`new` with those properties made secret that are secret in `old`.

    Providers that forget what was secret must not make it readable in the state.
    """
    return {
        key: secret(value) if has_secret(old.get(key)) and not has_secret(value) else value
        for key, value in new.items()
    }


def mark_secret(properties: Properties, names: list[str]) -> Properties:
    """`properties` with the named ones made secret."""
    return {key: secret(value) if key in names else value for key, value in properties.items()}


def secret_texts(value: Json) -> Iterator[str]:
    """Every string inside a secret of `value`, for hiding it in the output."""
    for part in walk(value):
        if is_secret(part):
            yield from (text for text in walk(plain(part)) if isinstance(text, str))


def walk(value: Json) -> Iterator[Json]:
    """`value` and everything in it, secrets' contents included."""
    yield value
    if isinstance(value, dict):
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)


def transform(value: Json, change: Callable[[Json], Json]) -> Json:
    """`value` with `change` applied to it, then to every part of the result."""
    value = change(value)
    if isinstance(value, dict):
        return {key: transform(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [transform(part, change) for part in value]
    return value


def _from_value(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "struct_value":
            fields = value.struct_value.fields
            return _lower({key: _from_value(part) for key, part in fields.items()})
        case "list_value":
            return [_from_value(part) for part in value.list_value.values]
        case "number_value":
            number = float(value.number_value)
            whole = number.is_integer() and abs(number) < _INTEGER_EXACT_MAX
            return int(number) if whole else number
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return bool(value.bool_value)
        case _:
            return None


def _lower(value: dict[str, Json]) -> Json:
    signature = value.get(SIGNATURE)
    if signature == OUTPUT_VALUE:
        inner = value.get("value", UNKNOWN)
        return secret(inner) if value.get("secret") else inner
    if isinstance(signature, str) and signature in ASSETS:
        raise UnsupportedError(ASSETS[signature])
    return value
