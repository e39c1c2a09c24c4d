"""Identifiers, as distinct types so that one is never passed for another."""

from __future__ import annotations

from typing import NewType

BucketId = NewType("BucketId", int)
"""A bucket for ever: names are reused after a delete, ids never."""

UserId = NewType("UserId", str)
"""The owner id that S3 returns: 64 hexadecimal digits."""

VersionOrder = NewType("VersionOrder", int)
"""Place of a version among its key's versions: the newest has the smallest number, so that it sorts
first.
"""

Sequence = NewType("Sequence", int)
"""Place of a record in its shard's log; starts at 1, no gaps."""

ShardId = NewType("ShardId", int)

NULL_VERSION = "null"
"""The version id of objects written while the bucket's versioning was off or suspended."""
