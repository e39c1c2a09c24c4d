"""What several tests of the engine share."""

from __future__ import annotations

import random
from pathlib import Path

from objectstore_app.core.ids import BucketId, ShardId, UserId
from objectstore_app.core.limits import LOG_SEGMENT_BYTES_MAX
from objectstore_app.media.api import LogMedium
from objectstore_app.media.memory import Faults, MemoryLog, MemoryStore
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.metadata_service.api import (
    Attributes,
    DataMutation,
    DirectoryMutation,
    MutationResult,
    OpenBucket,
    PutVersion,
    WriteCondition,
)
from objectstore_app.metadata_service.inventory import TABLES, rows_of
from objectstore_app.metadata_service.shard import Shard

OWNER = UserId("a" * 64)
BUCKET = BucketId(7)


class Clock:
    """Milliseconds that pass by one at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def memory_shard(
    store: MemoryStore,
    shard: ShardId | None = None,
    *,
    faults: Faults | None = None,
    view: Path | None = None,
    seed: int = 1,
    segment_bytes_max: int = LOG_SEGMENT_BYTES_MAX,
    zeros_ahead: int = 0,
) -> Shard:
    number = ShardId(0) if shard is None else shard
    log = MemoryLog(
        store,
        number,
        faults=faults,
        segment_bytes_max=segment_bytes_max,
        zeros_ahead=zeros_ahead,
    )
    return open_shard(log, number, view=view, seed=seed)


def open_shard(log: LogMedium, shard: ShardId, *, view: Path | None = None, seed: int = 1) -> Shard:
    bits = random.Random(seed).getrandbits
    return Shard(shard, log, view, data_shards=1, now_ms=Clock(), random_bits=bits)


def directory(store: MemoryStore) -> Shard:
    return memory_shard(store, DIRECTORY_SHARD)


def opened_bucket(
    store: MemoryStore | None = None, *, faults: Faults | None = None, zeros_ahead: int = 0
) -> Shard:
    """A data shard with BUCKET open."""
    shard = memory_shard(store or MemoryStore(), faults=faults, zeros_ahead=zeros_ahead)
    do(shard, OpenBucket(bucket=BUCKET))
    return shard


def do(shard: Shard, mutation: DataMutation | DirectoryMutation) -> MutationResult:
    """Commit one mutation; raise what it was refused with."""
    (outcome,) = shard.commit([mutation])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def put(
    key: bytes,
    data: bytes = b"",
    *,
    etag: str = "",
    if_match: str = "",
    if_none_match: str = "",
    acl: str = "private",
) -> PutVersion:
    return PutVersion(
        bucket=BUCKET,
        key=key,
        owner=OWNER,
        size=len(data),
        etag=etag or f"etag-{len(data)}",
        data=data,
        attributes=Attributes(acl=acl),
        condition=WriteCondition(if_match=if_match, if_none_match=if_none_match),
    )


def dump(shard: Shard) -> dict[str, list[object]]:
    """Every row of a shard's view but for the position."""
    schema = "directory" if shard.shard == DIRECTORY_SHARD else "data"
    return {table: list(rows_of(shard.view, schema, table)) for table in TABLES[schema]}
