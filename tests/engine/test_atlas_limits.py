"""Atlas on file systems that lack a call: room comes back later, nothing is read wrong."""

from __future__ import annotations

import asyncio
import ctypes
import errno
from collections.abc import Callable
from contextlib import closing

import pytest

from objectstore_app.atlas import passes
from objectstore_app.atlas.pace import Pace
from objectstore_app.atlas.passes import run_passes
from objectstore_app.config.atlas import AtlasSettings
from objectstore_app.core.clock import now_ms
from objectstore_app.core.limits import SEND_WINDOW_BYTES_MAX
from objectstore_app.media import files, local_segments
from objectstore_app.media.api import Extent
from objectstore_app.media.chunks import LocalReader
from objectstore_app.media.opened import LocalMedia
from objectstore_app.media.store import Store
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.runtime.http import read_bytes

from .atlas_store import OLD_S, Held, atlas, disk_bytes, large, small, stopped_and_checked
from .processes import WriterProcess


class NoHoles:
    """A C library on such a file system."""

    def fallocate(self, *_: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def without_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_segments, "_libc", NoHoles())


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.fcntl, "fcntl", no_locks)


async def extent_of(held: Held, key: bytes) -> Extent:
    client = EmbeddedClient(held.store)
    assert held.bucket is not None
    found = await client.lookup(held.bucket, key)
    await client.close()
    assert found is not None
    (extent,) = found.body.extents
    return extent


@pytest.mark.parametrize(("lacking", "said"), [(without_holes, "holes"), (without_locks, "locks")])
def test_chunk_segments_come_back_when_all_of_them_is_dead(
    store: Store,
    writer: WriterProcess,
    monkeypatch: pytest.MonkeyPatch,
    lacking: Callable[[pytest.MonkeyPatch], None],
    said: str,
) -> None:
    lacking(monkeypatch)
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(
        passes, "event", lambda name, atlas_pass, **_: logged.append((name, atlas_pass))
    )
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"a": large(1), b"b": large(2)})
        await held.put({b"c": large(3), b"d": large(4)})
        await held.delete([b"a", b"c", b"d"])
        full = disk_bytes(store)
        for _ in range(2):
            state = await atlas(store)
            assert said in state.passes["gc"].limited_by
            assert not state.passes["gc"].stopped_by
        assert disk_bytes(store) >= full
        await held.verify()
        await atlas(store, later_s=OLD_S)
        assert disk_bytes(store) < full - len(large(3)) * 2 + 100_000
        assert len(list(store.chunks.glob("*.seg"))) == 1
        await held.delete([b"b"])
        await atlas(store, later_s=OLD_S)
        assert list(store.chunks.glob("*.seg")) == []

    asyncio.run(work())
    assert logged.count(("atlas_pass_limited", "gc")) == 1
    assert stopped_and_checked(store, writer).clean


@pytest.mark.parametrize("short", [True, False])
def test_short_room_lifts_the_pace_but_not_the_grace(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    held, slept = Held(store), 0.0
    settings = AtlasSettings(grace_s=3600, bytes_per_s=100, base_log_bytes=0)
    monkeypatch.setattr(local_segments, "is_short", lambda _: short)

    async def asleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    async def paced(later_s: float) -> None:
        with closing(LocalMedia(store)) as media:
            await run_passes(
                store,
                media,
                settings,
                names=["gc", "compact", "orphans"],
                pace=Pace(settings.bytes_per_s, sleep=asleep),
                now_ms=lambda: now_ms() + int(later_s * 1000),
            )

    async def work() -> None:
        await held.create()
        await held.put({b"k%d" % n: small(n) for n in range(60)} | {b"a": large(1)})
        await held.delete([key for key in held.objects if key != b"k7"])
        full = disk_bytes(store)
        await paced(0)
        assert disk_bytes(store) > full - len(large(1)), "the grace holds"
        await paced(3700)
        assert disk_bytes(store) < full - len(large(1))
        await held.verify()

    asyncio.run(work())
    assert slept == 0 if short else slept > 10
    assert stopped_and_checked(store, writer).clean


@pytest.mark.parametrize("locks", [True, False])
def test_download_outlasts_the_removal_of_its_whole_segment(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        without_locks(monkeypatch)
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"a": large(1)})
        expected = held.objects[b"a"]
        reader = LocalReader(store.path)
        download = reader.file_of(await extent_of(held, b"a"))
        assert download is not None
        await held.delete([b"a"])
        await atlas(store, later_s=OLD_S)
        assert len(list(store.chunks.glob("*.seg"))) == (1 if locks else 0)
        for at in range(0, len(expected), SEND_WINDOW_BYTES_MAX):
            window = expected[at : at + SEND_WINDOW_BYTES_MAX]
            assert await read_bytes(download, at, len(window)) == window
        download.close()
        reader.close()
        await atlas(store, later_s=OLD_S)
        assert list(store.chunks.glob("*.seg")) == []

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean
