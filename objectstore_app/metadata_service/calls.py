"""The protocol between a router and the gateways of the shards' owners.

Frames as in `wire.py`, over TCP with mutual TLS: `[[number, method, shard, arguments], …]`, answers
`[[number, kind, value], …]`. Every call names the shard that it is for; a gateway whose pod does
not have that shard answers NotOwnerError, having decided nothing. `READS` has the reads, each a
function of the shard's view; values travel in the form that they have here. `GENERATION` is the
directory's (`cache.py`). `MUTATE` carries one mutation, which the gateway passes on unread.
`PING` is answered by the gateway itself, whatever its shards do.

Both ends are of one store and hold certificates of its own authority; names in these are not
compared, for pods are known by address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import apsw
import msgspec

from ..core.ids import BucketId, UserId
from ..core.limits import RPC_FRAME_BYTES_MAX
from . import directory, keys, listing, reads
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    CloseBucket,
    CloseKey,
    CompleteUpload,
    ObjectsPage,
    ObjectVersion,
    OpenBucket,
    Part,
    StoreKey,
    Upload,
    UploadsPage,
    Usage,
    User,
    VersionsPage,
)
from .machine import Mutation

# An answer may exceed RPC_FRAME_BYTES_MAX: the extents of an object of some terabytes do.
CALL_FRAME_BYTES_MAX = 4 * RPC_FRAME_BYTES_MAX
CALLS_IN_FLIGHT_MAX = 512

MUTATE, GENERATION, LOOKUP, PING = "mutate", "generation", "lookup", "ping"

REPEATABLE: frozenset[type[Mutation]] = frozenset(
    (OpenBucket, CloseBucket, CloseKey, CompleteUpload)
)
"""What is answered alike when it is decided twice, whoever wrote in between: it may be sent again
when its answer is lost, no other mutation may. A PutVersion that is decided twice, say, would bury
what another client wrote, and was told to be written, after the first time.
"""

Call = tuple[int, str, int, msgspec.Raw]
decode_calls = msgspec.msgpack.Decoder(list[Call]).decode


@dataclass(frozen=True, slots=True)
class Read:
    """What answers a read from a view, and how arguments and result are decoded."""

    run: Callable[..., object]
    arguments: msgspec.msgpack.Decoder[tuple[object, ...]]
    result: msgspec.msgpack.Decoder[object]


def _read(run: Callable[..., object], arguments: object, result: object) -> Read:
    return Read(run, *(msgspec.msgpack.Decoder(kind) for kind in (arguments, result)))


def _lookup(
    view: apsw.Connection, bucket: BucketId, key: bytes, version_id: str, _: int
) -> ObjectVersion | None:
    """The last argument says up to which size a body comes along; the gateway sees to that."""
    return reads.lookup(view, bucket, key, version_id)


def _list_objects(
    view: apsw.Connection,
    bucket: BucketId,
    prefix: bytes,
    after: bytes,
    delimiter: bytes,
    limit: int,
    owners: bool,
) -> ObjectsPage:
    return listing.list_objects(view, bucket, prefix, after, delimiter, limit, owners=owners)


_Named = tuple[BucketId, bytes, bytes, str, bytes, int]
"""Bucket, prefix, after key, after id, delimiter, limit."""

READS: dict[str, Read] = {
    # of the directory
    "bucket": _read(directory.find_bucket, tuple[str], Bucket | None),
    "buckets": _read(directory.buckets_of, tuple[UserId], list[Bucket]),
    "buckets_after": _read(directory.buckets_after, tuple[str, int], list[Bucket]),
    "user_of_key": _read(directory.find_key, tuple[str], tuple[User, AccessKey] | None),
    "users": _read(directory.all_users, tuple[()], list[User]),
    "store_keys": _read(directory.all_store_keys, tuple[()], list[StoreKey]),
    # of data shards
    "key_use": _read(keys.key_use, tuple[()], dict[int, int]),
    "total_usage": _read(reads.total_usage, tuple[()], tuple[int, Usage]),
    "state": _read(reads.bucket_state, tuple[BucketId], BucketState),
    LOOKUP: _read(_lookup, tuple[BucketId, bytes, str, int], ObjectVersion | None),
    "list_objects": _read(
        _list_objects, tuple[BucketId, bytes, bytes, bytes, int, bool], ObjectsPage
    ),
    "list_versions": _read(listing.list_versions, _Named, VersionsPage),
    "list_uploads": _read(listing.list_uploads, _Named, UploadsPage),
    "upload": _read(reads.find_upload, tuple[BucketId, bytes, str], Upload | None),
    "parts": _read(reads.parts_of, tuple[BucketId, str, int, int], list[Part]),
}
