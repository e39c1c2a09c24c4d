"""Differences between objects: between the program's inputs of then and now, and to the cluster.

Paths are Pulumi's: `spec.template.spec.containers[0].image`, keys with other signs in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from objectstore_infra.provider.values import Plain, Record

Effect = Literal["add", "delete", "update"]
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What the API server keeps about an object, beside what it says.
_BOOKKEEPING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs."""

    path: str
    effect: Effect


def differences(old: Plain, new: Plain, path: str = "") -> Iterator[Difference]:
    """Yield every value that differs, a value being whatever is no mapping and no list."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), _joined(path, key))
    elif _is_list(old) and _is_list(new):
        for index in range(max(len(old), len(new))):
            yield from differences(_at(old, index), _at(new, index), f"{path}[{index}]")
    else:
        effect: Effect = "add" if old is None else "delete" if new is None else "update"
        yield Difference(path, effect)


def drifted(inputs: Record, wanted: Record, live: Record) -> Record:
    """Return the inputs as the cluster has them.

    `wanted` is what the object would be if the inputs were applied now, `live` what it is: where
    they differ somebody changed it, and the inputs get the live value. So defaults that the server
    adds, and other ways to write the same value, are not taken for changes.
    """
    return {
        key: _seen(value, wanted.get(key), live.get(key))
        for key, value in inputs.items()
        if key == "metadata" or live.get(key) is not None or wanted.get(key) is None
    }


def without_bookkeeping(live: Mapping[str, Plain]) -> Record:
    """Return the object without its status and without what changes at each write of it."""
    kept = {key: value for key, value in live.items() if key != "status"}
    metadata = kept.get("metadata")
    if isinstance(metadata, Mapping):
        kept["metadata"] = {k: v for k, v in metadata.items() if k not in _BOOKKEEPING}
    return kept


def _seen(said: Plain, wanted: Plain, live: Plain) -> Plain:
    if wanted == live:
        return said
    if isinstance(said, Mapping) and isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return {
            key: _seen(value, wanted.get(key), live.get(key))
            for key, value in said.items()
            if live.get(key) is not None or wanted.get(key) is None
        }
    if _is_list(said) and _is_list(wanted) and _is_list(live) and len(said) == len(live):
        return [_seen(*parts) for parts in zip(said, wanted, live, strict=True)]
    return live


def _is_list(value: Plain) -> TypeGuard[Sequence[Plain]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _at(values: Sequence[Plain], index: int) -> Plain:
    return values[index] if index < len(values) else None


def _joined(path: str, key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f'{path}["{key}"]'
