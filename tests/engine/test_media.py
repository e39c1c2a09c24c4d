"""Segments on a local directory: appends, chunks, verified reads."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import (
    CHECKSUM_BLOCK_BYTES,
    CHUNKS_FREE_BYTES_MIN,
    COMMIT_BYTES_MAX,
    MIB,
)
from objectstore_app.media import chunks as chunks_module
from objectstore_app.media.api import Extent
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import CorruptDataError, MediaFailedError, MediaFullError
from objectstore_app.media.local import LocalLog
from objectstore_app.media.segments import checksum, chunk_segment, is_chunk, segment_path
from objectstore_app.media.store import open_store
from tests.engine.support import Clock

SHARD = ShardId(0)


def raising(number: int):
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_append_announces_its_place_and_is_on_the_medium(tmp_path: Path) -> None:
    log = LocalLog(tmp_path, SHARD)
    announced = log.position()
    assert log.append([b"abc", memoryview(b"def")]) == announced == (1, 32)
    assert log.position() == (1, 38)
    assert (tmp_path / "log-00000001.seg").read_bytes()[32:] == b"abcdef"


def test_more_buffers_than_one_system_call_takes_are_all_written(tmp_path: Path) -> None:
    log = LocalLog(tmp_path, SHARD)
    log.append([b"%04d" % number for number in range(2500)])
    assert (tmp_path / "log-00000001.seg").stat().st_size == 32 + 10_000


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    def short(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return whole(fd, [b"".join(buffers)[:2]], offset)

    log = LocalLog(tmp_path, SHARD)
    monkeypatch.setattr(os, "pwritev", short)
    log.append([b"abc", b"def"])
    assert (tmp_path / "log-00000001.seg").read_bytes()[32:] == b"abcdef"


def test_no_room_cuts_the_log_back_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LocalLog(tmp_path, SHARD)
    log.append([b"first"])

    def half(fd: int, buffers: Sequence[bytes], offset: int) -> int:
        os.pwrite(fd, buffers[0][:3], offset)
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", half)
        with pytest.raises(MediaFullError):
            log.append([b"second"])
    assert (tmp_path / "log-00000001.seg").stat().st_size == 37
    assert log.append([b"third"]) == (1, 37)


def test_writes_are_refused_while_there_is_room_left_for_the_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        log, chunks = LocalLog(path / "shard-000", SHARD), LocalChunks(path, Clock())
        real = os.statvfs(path)
        free = CHUNKS_FREE_BYTES_MIN - 1

        def statvfs(_: object) -> os.statvfs_result:
            values = list(real)
            values[1], values[4] = 1, free
            return os.statvfs_result(values)

        monkeypatch.setattr(os, "statvfs", statvfs)
        with pytest.raises(MediaFullError):
            await chunks.write(b"large")
        assert log.room() == free
        free = CHUNKS_FREE_BYTES_MIN
        await chunks.write(b"large")
        await chunks.close()

    asyncio.run(run())


def test_failed_flush_ends_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LocalLog(tmp_path, SHARD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", raising(errno.EIO))
        with pytest.raises(MediaFailedError):
            log.append([b"x"])
    with pytest.raises(MediaFailedError):
        log.append([b"y"])


def test_log_rolls_before_a_commit_may_not_fit(tmp_path: Path) -> None:
    log = LocalLog(tmp_path, SHARD, segment_bytes_max=COMMIT_BYTES_MAX + 100)
    assert log.append([bytes(80)]) == (1, 32)
    assert log.append([b"next"]) == (2, 32)
    log.close()
    again = LocalLog(tmp_path, SHARD, segment_bytes_max=COMMIT_BYTES_MAX + 100)
    again.resume(2, 36, torn=False)
    assert again.position() == (2, 36)


def test_missing_segment_in_the_middle_is_refused(tmp_path: Path) -> None:
    log = LocalLog(tmp_path, SHARD, segment_bytes_max=COMMIT_BYTES_MAX + 40)
    for _ in range(3):
        log.append([bytes(50)])
    (tmp_path / "log-00000002.seg").unlink()
    with pytest.raises(CorruptDataError, match="log-00000002"):
        list(log.scan(1, 32))
    assert [piece.segment for piece in log.scan(3, 32)] == [3]


def test_segment_of_another_shard_is_refused(tmp_path: Path) -> None:
    LocalLog(tmp_path, ShardId(3)).close()
    with pytest.raises(CorruptDataError):
        LocalLog(tmp_path, SHARD)


def test_segment_numbers_never_meet(tmp_path: Path) -> None:
    number = chunk_segment(1_700_000_000_000, 0xFFFFF)
    assert is_chunk(number)
    assert number < 1 << 63
    assert segment_path(tmp_path, number).name == f"{number:016x}.seg"
    assert segment_path(tmp_path, 2 << 32 | 9) == tmp_path / "shard-002" / "log-00000009.seg"


def in_store(tmp_path: Path) -> Path:
    return open_store(tmp_path / "data").path


@pytest.mark.parametrize("size", [1, CHECKSUM_BLOCK_BYTES, CHECKSUM_BLOCK_BYTES + 1, 3 * MIB + 17])
def test_any_range_of_a_chunk_reads_back(tmp_path: Path, size: int) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        data = os.urandom(size)
        chunks, reader = LocalChunks(path, Clock()), LocalReader(path)
        await chunks.write(b"before")
        extent = await chunks.write(data)
        await chunks.flush()
        ranges = [(0, size), (size - 1, 1), (size // 2, size - size // 2), (size // 3, 1)]
        for start, length in ranges:
            assert await reader.read(extent, start, length) == data[start : start + length]
        await chunks.close()
        reader.close()

    asyncio.run(run())


def test_damage_is_found_where_it_lies_and_only_there(tmp_path: Path) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks, reader = LocalChunks(path, Clock()), LocalReader(path)
        extent = await chunks.write(bytes(4 * CHECKSUM_BLOCK_BYTES))
        await chunks.close()
        file = segment_path(path, extent.segment)
        content = bytearray(file.read_bytes())
        content[extent.offset + 2 * CHECKSUM_BLOCK_BYTES + 5] ^= 1
        file.write_bytes(content)
        assert len(await reader.read(extent, 0, 2 * CHECKSUM_BLOCK_BYTES)) > 0
        with pytest.raises(CorruptDataError, match=f"{extent.segment:#x}"):
            await reader.read(extent, 2 * CHECKSUM_BLOCK_BYTES, 1)
        with pytest.raises(CorruptDataError):
            await reader.read(extent, 0, extent.length)
        content[extent.offset + extent.length] ^= 1
        file.write_bytes(content)
        with pytest.raises(CorruptDataError, match="table"):
            await reader.read(extent, 0, 1)
        file.write_bytes(content[:-200_000])
        with pytest.raises(CorruptDataError, match="short"):
            await reader.read(extent, 0, 1)
        reader.close()

    asyncio.run(run())


def test_record_bodies_are_verified_whole_and_missing_segments_named(tmp_path: Path) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        segment, offset = LocalLog(path / "shard-000", SHARD).append([b"hello world"])
        reader = LocalReader(path)
        assert await reader.read(Extent(segment, offset, 11, checksum(b"hello world")), 6, 5) == (
            b"world"
        )
        with pytest.raises(CorruptDataError):
            await reader.read(Extent(segment, offset, 11, 1), 6, 5)
        with pytest.raises(CorruptDataError, match="missing"):
            await reader.read(Extent(segment + 1, offset, 11, 1), 6, 5)
        reader.close()

    asyncio.run(run())


def test_open_files_of_a_reader_are_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        reader = LocalReader(path, open_files_max=2)
        extents = []
        for _ in range(5):
            chunks = LocalChunks(path, Clock())
            extents.append(await chunks.write(b"data"))
            await chunks.close()
        before = len(os.listdir("/proc/self/fd"))
        for extent in extents * 2:
            assert await reader.read(extent, 0, 4) == b"data"
        assert len(os.listdir("/proc/self/fd")) <= before + 2
        reader.close()

    asyncio.run(run())


def test_concurrent_callers_share_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = chunks_module._sync_all
    monkeypatch.setattr(chunks_module, "_sync_all", lambda fds: (calls.append(fds), real(fds))[1])

    async def run() -> None:
        chunks = LocalChunks(in_store(tmp_path), Clock())

        async def one() -> None:
            await chunks.write(bytes(1000))
            await chunks.flush()

        await asyncio.gather(*(one() for _ in range(50)))
        await chunks.close()

    asyncio.run(run())
    assert 1 <= len(calls) < 25


def test_failed_chunk_flush_fails_every_later_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        chunks = LocalChunks(in_store(tmp_path), Clock())
        await chunks.write(b"data")
        monkeypatch.setattr(os, "fdatasync", raising(errno.EIO))
        with pytest.raises(MediaFailedError):
            await chunks.flush()
        with pytest.raises(MediaFailedError):
            await chunks.write(b"data")

    asyncio.run(run())


def test_chunk_that_finds_no_room_leaves_earlier_ones_and_starts_a_new_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks, reader = LocalChunks(path, Clock()), LocalReader(path)
        first = await chunks.write(b"first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", raising(errno.ENOSPC))
            with pytest.raises(MediaFullError):
                await chunks.write(b"second")
        third = await chunks.write(b"third")
        await chunks.flush()
        assert first.segment != third.segment
        assert await reader.read(first, 0, 5) == b"first"
        assert await reader.read(third, 0, 5) == b"third"
        await chunks.close()
        reader.close()

    asyncio.run(run())


def test_a_segment_is_closed_once_though_a_flush_and_a_roll_follow_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks = LocalChunks(path, Clock())
        await chunks.write(b"first")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", raising(errno.ENOSPC))
            with pytest.raises(MediaFullError):
                await chunks.write(b"second")
        await chunks.flush()
        # Whatever is opened next may get the number of the segment's descriptor.
        others = [os.open(path, os.O_RDONLY) for _ in range(8)]
        await chunks.write(b"third")
        await chunks.flush()
        await chunks.close()
        for other in others:
            os.close(other)

    asyncio.run(run())


def test_chunks_refused_for_want_of_room_leave_no_descriptors_and_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks = LocalChunks(path, Clock())
        await chunks.write(b"first")
        before = open_descriptors()

        def half(fd: int, buffers: Sequence[bytes], offset: int) -> int:
            os.pwrite(fd, bytes(1000), offset)
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(os, "pwritev", half)
        for _ in range(5):
            with pytest.raises(MediaFullError):
                await chunks.write(b"second")
        await chunks.flush()
        assert open_descriptors() <= before
        (left,) = (path / "chunks").iterdir()
        assert left.stat().st_size == 32 + len(b"first") + 4
        await chunks.close()

    asyncio.run(run())


def test_a_segment_stays_open_while_the_thread_of_a_cancelled_write_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on, outcome = threading.Event(), threading.Event(), []
    real = chunks_module._write_pieces

    def slow(fd: int, offset: int, pieces: list[bytes], *how: object) -> None:
        if pieces == [b"slow"]:
            entered.set()
            go_on.wait(10)
            outcome.append(os.fstat(fd).st_ino)
        real(fd, offset, pieces, *how)

    async def run() -> None:
        path = in_store(tmp_path)
        monkeypatch.setattr(chunks_module, "_write_pieces", slow)
        chunks = LocalChunks(path, Clock(), segment_bytes_max=100)
        first = await chunks.write(b"first")
        writing = asyncio.create_task(chunks.write(b"slow"))
        await asyncio.to_thread(entered.wait, 10)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await chunks.write(bytes(60))
        await chunks.flush()
        go_on.set()
        await chunks.close()
        while not outcome:
            await asyncio.to_thread(go_on.wait, 0.01)
        assert outcome == [segment_path(path, first.segment).stat().st_ino]

    asyncio.run(run())


def test_a_cancelled_read_leaves_no_descriptor(tmp_path: Path) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks, reader = LocalChunks(path, Clock()), LocalReader(path)
        extent = await chunks.write(bytes(MIB))
        await chunks.close()
        await reader.read(extent, 0, 1)
        release = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        before = open_descriptors()
        blocker = loop.run_in_executor(None, release.wait, 10)
        reads = [asyncio.create_task(reader.read(extent, 0, MIB)) for _ in range(5)]
        await asyncio.sleep(0)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        release.set()
        await blocker
        await asyncio.to_thread(release.wait)  # behind the reads in the only thread
        assert open_descriptors() == before
        reader.close()

    asyncio.run(run())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_failed_flush_is_told_to_who_has_to_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        told = asyncio.Event()
        chunks = LocalChunks(in_store(tmp_path), Clock(), on_failed_flush=told.set)
        await chunks.write(b"data")
        monkeypatch.setattr(os, "fdatasync", raising(errno.EIO))
        with pytest.raises(MediaFailedError):
            await chunks.flush()
        assert told.is_set()

    asyncio.run(run())


def test_chunk_segments_roll(tmp_path: Path) -> None:
    async def run() -> None:
        path = in_store(tmp_path)
        chunks, reader = LocalChunks(path, Clock(), segment_bytes_max=5000), LocalReader(path)
        extents = [await chunks.write(bytes([number]) * 2000) for number in range(6)]
        await chunks.flush()
        assert len({extent.segment for extent in extents}) == 3
        for number, extent in enumerate(extents):
            assert await reader.read(extent, 0, 2000) == bytes([number]) * 2000
        await chunks.close()
        reader.close()

    asyncio.run(run())
