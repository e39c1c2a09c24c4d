"""Version ids and upload ids: opaque to clients, made of an order and random bits.

Both are 26 characters of an alphabet that sorts as its digits do (base32hex, lower case): eight
bytes of order, eight of chance. A version's order is the negative sequence of the record that made
it, so that the newest sorts first; an upload's is the sequence, so that they sort as begun.
"""

from __future__ import annotations

import base64
import binascii

from ..core.ids import VersionOrder

_BIAS = 1 << 63


def version_order(sequence: int) -> VersionOrder:
    return VersionOrder(-sequence)


def make_version_id(order: int, random_bits: int) -> str:
    return _encode(order + _BIAS, random_bits)


def make_upload_id(sequence: int, random_bits: int) -> str:
    return _encode(sequence, random_bits)


def order_of(version_id: str) -> VersionOrder | None:
    """The order inside a version id; None when it is none of ours (`null` has none)."""
    if len(version_id) != 26:
        return None
    try:
        raw = base64.b32hexdecode(version_id.upper() + "======")
    except (binascii.Error, ValueError):
        return None
    return VersionOrder(int.from_bytes(raw[:8], "big") - _BIAS)


def _encode(order: int, random_bits: int) -> str:
    raw = order.to_bytes(8, "big") + random_bits.to_bytes(8, "big")
    return base64.b32hexencode(raw)[:26].decode("ascii").lower()
