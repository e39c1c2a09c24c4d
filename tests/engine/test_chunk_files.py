"""Chunks read as they are sent: what is given out is right, whatever the page cache holds."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from pathlib import Path

import pytest

from objectstore_app.core.limits import CHECKSUM_BLOCK_BYTES
from objectstore_app.media import files
from objectstore_app.media.api import Extent
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import CorruptDataError, MediaFailedError
from objectstore_app.media.files import LocalChunkFile
from objectstore_app.media.segments import segment_path
from objectstore_app.runtime.http import read_bytes

LENGTH = 5 * CHECKSUM_BLOCK_BYTES + 777
DATA = random.Random(5).randbytes(LENGTH)


async def stored(folder: Path) -> tuple[LocalReader, Extent, Path]:
    (folder / "chunks").mkdir()
    chunks = LocalChunks(folder, lambda: 1_700_000_000_000)
    await chunks.write(b"before")
    extent = await chunks.write(DATA)
    await chunks.close()
    return LocalReader(folder), extent, segment_path(folder, extent.segment)


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def forget(path: Path) -> None:
    """Take the file out of the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


async def opened(reader: LocalReader, extent: Extent) -> LocalChunkFile:
    file = reader.file_of(extent)
    assert file is not None
    return file


@pytest.mark.parametrize("cold", [False, True])
def test_range_is_what_was_written(tmp_path: Path, cold: bool) -> None:
    async def run() -> None:
        reader, extent, path = await stored(tmp_path)
        for start, size in ((0, LENGTH), (0, 1), (LENGTH - 1, 1), (200_000, 300_000)):
            if cold:
                forget(path)
            file = await opened(reader, extent)
            assert await read_bytes(file, start, size) == DATA[start : start + size]
            file.close()
        reader.close()

    asyncio.run(run())


@pytest.mark.parametrize("cold", [False, True])
def test_flipped_bit_is_found_by_the_ranges_that_touch_its_block(
    tmp_path: Path, cold: bool
) -> None:
    async def run() -> None:
        reader, extent, path = await stored(tmp_path)
        step = CHECKSUM_BLOCK_BYTES
        for bad in range(0, LENGTH, step):
            flip(path, extent.offset + bad + 100)
            for start in range(0, LENGTH, step):
                if cold:
                    forget(path)
                file = await opened(reader, extent)
                if start == bad:
                    with pytest.raises(CorruptDataError):
                        await read_bytes(file, start, 1)
                else:
                    await read_bytes(file, start, 1)
                with pytest.raises(CorruptDataError):
                    await read_bytes(file, 0, LENGTH)
                file.close()
            flip(path, extent.offset + bad + 100)
        flip(path, extent.offset + LENGTH + 5)  # in the table
        file = await opened(reader, extent)
        with pytest.raises(CorruptDataError):
            await read_bytes(file, 0, 1)
        file.close()
        reader.close()

    asyncio.run(run())


def test_chunk_that_cannot_be_locked_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> bool:
        raise OSError(errno.EIO, "the disk is gone")

    async def run() -> None:
        reader, extent, _ = await stored(tmp_path)
        before = os.listdir("/proc/self/fd")
        monkeypatch.setattr(files, "lock_range", failing)
        with pytest.raises(MediaFailedError, match="the disk is gone"):
            reader.file_of(extent)
        assert os.listdir("/proc/self/fd") == before
        reader.close()

    asyncio.run(run())


def test_file_that_is_too_short_is_damage(tmp_path: Path) -> None:
    async def run() -> None:
        reader, extent, path = await stored(tmp_path)
        file = await opened(reader, extent)
        await read_bytes(file, 0, 1)  # reads the table
        os.truncate(path, extent.offset + LENGTH - 1000)
        with pytest.raises(CorruptDataError):
            await read_bytes(file, 0, LENGTH)
        file.close()
        reader.close()

    asyncio.run(run())


def test_closed_file_stays_open_for_the_thread_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        reader, extent, _ = await stored(tmp_path)
        file = await opened(reader, extent)
        entered, go_on = threading.Event(), threading.Event()
        real = files.LocalChunkFile._fetch

        def slow(self: LocalChunkFile, start: int, end: int) -> None:
            entered.set()
            go_on.wait(10)
            real(self, start, end)

        monkeypatch.setattr(files.LocalChunkFile, "_fetch", slow)
        monkeypatch.setattr(files.LocalChunkFile, "_fill", _not_cached(files.LocalChunkFile._fill))
        fetching = asyncio.create_task(file.fetch(0, LENGTH))
        await asyncio.to_thread(entered.wait, 10)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        reading = file._fetching
        assert reading is not None
        file.close()
        assert file.fd >= 0
        go_on.set()
        await asyncio.wait([reading], timeout=10)
        await asyncio.sleep(0)
        assert file.fd < 0
        reader.close()

    asyncio.run(run())


def _not_cached(real: object) -> object:
    def fill(self: LocalChunkFile, buffer: memoryview, offset: int, flags: int) -> bool:
        return not flags and bool(real(self, buffer, offset, flags))  # type: ignore[operator]

    return fill
