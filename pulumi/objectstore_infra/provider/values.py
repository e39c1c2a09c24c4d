"""Pulumi's property values to plain Python and back.

Unknown values travel as Pulumi's sentinel string: the SDK cannot marshal its own `Computed`.
Numbers are doubles on the wire; whole ones come back as int.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi.provider.experimental.property_value import Computed, PropertyValue

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Plain = None | bool | int | float | str | Sequence["Plain"] | Mapping[str, "Plain"]
Record = dict[str, Plain]


def to_plain(value: PropertyValue) -> Plain:
    """Return the value without secretness and dependencies."""
    inner = value.value
    if isinstance(inner, Computed):
        return UNKNOWN
    if isinstance(inner, Mapping):
        return {key: to_plain(item) for key, item in inner.items()}
    if isinstance(inner, str):
        return inner
    if isinstance(inner, Sequence):
        return [to_plain(item) for item in inner if isinstance(item, PropertyValue)]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    if inner is None or isinstance(inner, (bool, float)):
        return inner
    raise TypeError(f"property values of type {type(inner).__name__} are not used here")


def to_record(properties: Mapping[str, PropertyValue]) -> Record:
    """Return all properties as plain values."""
    return {key: to_plain(value) for key, value in properties.items()}


def to_property(value: Plain, *, secret: bool = False) -> PropertyValue:
    """Return the property value of a plain one."""
    if isinstance(value, Mapping):
        return PropertyValue({key: to_property(item) for key, item in value.items()}, secret)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return PropertyValue([to_property(item) for item in value], secret)
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value), secret)
    return PropertyValue(value, secret)


def to_properties(record: Mapping[str, Plain], secrets: frozenset[str]) -> dict[str, PropertyValue]:
    """Return property values, those named in `secrets` marked so."""
    return {key: to_property(value, secret=key in secrets) for key, value in record.items()}


def has_unknown(value: Plain) -> bool:
    """Say whether the value, or anything in it, is not known yet."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(has_unknown(item) for item in value)
    return value == UNKNOWN


def has_secret(value: PropertyValue) -> bool:
    """Say whether the value, or anything in it, is secret."""
    inner = value.value
    if value.is_secret:
        return True
    if isinstance(inner, Mapping):
        return any(has_secret(item) for item in inner.values())
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return any(has_secret(item) for item in inner if isinstance(item, PropertyValue))
    return False
