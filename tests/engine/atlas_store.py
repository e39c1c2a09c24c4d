"""A store with a living writer and small log segments, for the tests of Atlas."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from objectstore_app.atlas.fsck import Report, check
from objectstore_app.atlas.pace import Pace
from objectstore_app.atlas.passes import PASSES, run_passes
from objectstore_app.atlas.state import State
from objectstore_app.config.atlas import AtlasSettings
from objectstore_app.config.ceph import CephSettings
from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import (
    CHUNK_NAMED_S_MAX,
    COMMIT_BYTES_MAX,
    MIB,
    RECORD_BODY_BYTES_MAX,
)
from objectstore_app.media import opened
from objectstore_app.media.api import Extent
from objectstore_app.media.local import LocalLog
from objectstore_app.media.opened import open_media
from objectstore_app.media.store import Store
from objectstore_app.metadata_service.api import (
    Bucket,
    CreateBucket,
    DeleteKey,
    OpenBucket,
    PutVersion,
)
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.writer import now_ms

from .crash_load import read_version
from .processes import WriterProcess
from .support import OWNER

DATA = ShardId(0)
OLD_S = CHUNK_NAMED_S_MAX + 2 * 3600
AT_ONCE = AtlasSettings(grace_s=0, bytes_per_s=0, base_log_bytes=0)
SEGMENT_BYTES = COMMIT_BYTES_MAX + 64 * 1024
"""A segment is full once it has 64 KiB."""


def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers started from here on fill a log segment with 64 KiB."""

    def small_log(folder: Path, shard: ShardId, **_: object) -> LocalLog:
        return LocalLog(folder, shard, segment_bytes_max=SEGMENT_BYTES)

    monkeypatch.setattr(opened, "LocalLog", small_log)


@dataclass
class Held:
    """What was written and has to be there; in the folder, or where `ceph` says."""

    store: Store
    ceph: CephSettings | None = None
    bucket: Bucket | None = None
    objects: dict[bytes, bytes] = field(default_factory=dict)

    async def create(self, name: str = "b") -> None:
        client = EmbeddedClient(self.store)
        bucket = await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
        assert isinstance(bucket, Bucket)
        await client.mutate(bucket, OpenBucket(bucket=bucket.id))
        self.bucket = bucket
        await client.close()

    async def put(self, objects: dict[bytes, bytes]) -> None:
        assert self.bucket is not None
        client, media = EmbeddedClient(self.store), open_media(self.store, self.ceph)
        chunks = media.chunks(now_ms, lambda: None)
        for key, data in objects.items():
            extents: tuple[Extent, ...] = ()
            sent = data
            if len(data) > RECORD_BODY_BYTES_MAX:
                extents = (await chunks.write(data),)
                await chunks.flush()
                sent = b""
            await client.mutate(
                self.bucket,
                PutVersion(
                    bucket=self.bucket.id, key=key, owner=OWNER, size=len(data),
                    etag=hashlib.md5(data).hexdigest(), data=sent, extents=extents,
                ),
            )  # fmt: skip
            self.objects[key] = data
        await chunks.close()
        media.close()
        await client.close()

    async def cut_off(self, data: bytes) -> None:
        """An upload that nobody came to name."""
        with closing(open_media(self.store, self.ceph)) as media:
            chunks = media.chunks(now_ms, lambda: None)
            await chunks.write(data)
            await chunks.close()

    async def delete(self, keys: Sequence[bytes]) -> None:
        assert self.bucket is not None
        client = EmbeddedClient(self.store)
        for key in keys:
            await client.mutate(self.bucket, DeleteKey(bucket=self.bucket.id, key=key, owner=OWNER))
            del self.objects[key]
        await client.close()

    async def verify(self) -> None:
        """Every object reads back byte for byte, and nothing else is there."""
        assert self.bucket is not None
        client, media = EmbeddedClient(self.store), open_media(self.store, self.ceph)
        for key, data in self.objects.items():
            found = await client.lookup(self.bucket, key)
            assert found is not None, key
            assert await read_version(found, media.reader) == data, key
        state = await client.state(self.bucket)
        assert state.usage.objects == len(self.objects)
        assert state.usage.size_bytes == sum(map(len, self.objects.values()))
        media.close()
        await client.close()


async def atlas(
    store: Store,
    names: Sequence[str] | None = PASSES,
    settings: AtlasSettings = AT_ONCE,
    *,
    later_s: float = 0,
    ceph: CephSettings | None = None,
) -> State:
    """Run passes as if `later_s` seconds had gone by."""
    with closing(open_media(store, ceph)) as media:
        return await run_passes(
            store,
            media,
            settings,
            names=names,
            pace=Pace(settings.bytes_per_s),
            now_ms=lambda: now_ms() + int(later_s * 1000),
        )


def stopped_and_checked(store: Store, process: WriterProcess) -> Report:
    """Stop the writer and verify the store."""
    assert process.stop() == 0
    return check(store.path)


def disk_bytes(store: Store) -> int:
    """What the store's log and chunk segments take on the disk."""
    paths = [*store.path.glob("*/log-*.seg"), *store.chunks.glob("*.seg")]
    return sum(path.stat().st_blocks * 512 for path in paths)


def small(number: int) -> bytes:
    return (b"%08d" % number) * 512


def large(number: int) -> bytes:
    return (b"%08d" % number) * (MIB // 8)
