"""Bodies in and out: sizes around every boundary, failures in the middle, bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from objectstore_app.core.limits import (
    CHUNK_BYTES_MAX,
    READ_PIECE_BYTES,
    RECORD_BODY_BYTES_MAX,
    UPLOAD_PIECE_BYTES_MAX,
    UPLOAD_PIECE_BYTES_MIN,
)
from objectstore_app.media.api import Extent
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import MediaFullError
from objectstore_app.media.memory import MemoryChunks, MemoryReader, MemoryStore
from objectstore_app.metadata_service.api import Body
from objectstore_app.object_controller import receive as receiving
from objectstore_app.object_controller.receive import UploadMemory, receive
from objectstore_app.object_controller.send import StoredPayload, pieces_of, read_body
from objectstore_app.protocol.errors import S3Error

SIZES = [
    0,
    1,
    RECORD_BODY_BYTES_MAX - 1,
    RECORD_BODY_BYTES_MAX,
    RECORD_BODY_BYTES_MAX + 1,
    UPLOAD_PIECE_BYTES_MAX - 1,
    UPLOAD_PIECE_BYTES_MAX,
    UPLOAD_PIECE_BYTES_MAX + 1,
    2 * UPLOAD_PIECE_BYTES_MAX,
    2 * UPLOAD_PIECE_BYTES_MAX + 77,
]


class Pieces:
    """A payload in pieces of a size; may fail instead of ending."""

    trailers: Mapping[str, str] = {}

    def __init__(self, data: bytes, size: int, failure: Exception | None = None) -> None:
        self.length = len(data) if failure is None else 2 * len(data)
        self._pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self._failure = failure

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._failure is not None:
            raise self._failure
        return b""


class FullChunks(MemoryChunks):
    """A medium with room for one chunk."""

    def put(self, data: bytes) -> Extent:
        if getattr(self, "used", False):
            raise MediaFullError("write chunk")
        self.used = True
        return super().put(data)


def body_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [65536, 100_003, 9 * 2**20])
def test_received_bytes_are_hashed_once_and_read_back(size: int, piece: int) -> None:
    async def run() -> None:
        store, body, digest = MemoryStore(), body_of(size), hashlib.md5()
        chunks, reader = MemoryChunks(store), MemoryReader(store)
        received = await receive(Pieces(body, piece), digest, chunks, UploadMemory())
        await chunks.flush()
        assert received.size == size
        assert digest.digest() == hashlib.md5(body).digest()
        if size <= RECORD_BODY_BYTES_MAX:
            assert (received.data, received.extents) == (body, ())
            return
        assert received.data == b""
        assert all(extent.length <= CHUNK_BYTES_MAX for extent in received.extents)
        stored = Body(extents=received.extents)
        again = b"".join([bytes(one) async for one in pieces_of(stored, reader, 0, size)])
        assert again == body

    asyncio.run(run())


class Trickle(Pieces):
    """Sends some, says that it is `silent`, and sends the rest when it is told to."""

    def __init__(
        self, data: bytes, size: int, silent: asyncio.Semaphore, go_on: asyncio.Event
    ) -> None:
        super().__init__(data, size)
        self._left = 3
        self._silent = silent
        self._go_on = go_on

    async def read(self) -> bytes:
        if not self._left:
            self._silent.release()
            await self._go_on.wait()
        else:
            self._left -= 1
        return await super().read()


@pytest.mark.parametrize("ends", ["sent", "cancelled"])
def test_bodies_that_do_not_come_leave_their_turns_to_those_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(receiving, "UPLOAD_TURN_S", 0.05)
    monkeypatch.setattr(receiving, "_LOOK_S", 0.01)
    (tmp_path / "chunks").mkdir()

    async def run() -> None:
        turns = 4
        memory = UploadMemory(turns * 2 * UPLOAD_PIECE_BYTES_MIN)
        chunks, go_on = LocalChunks(tmp_path, lambda: 1_700_000_000_000), asyncio.Event()
        bodies = [random.Random(n).randbytes(3 * 2**20 + n) for n in range(3 * turns)]
        silent = asyncio.Semaphore(0)
        slow = [Trickle(body, 100_003, silent, go_on) for body in bodies]
        digests = [hashlib.md5() for _ in bodies]
        slowly = [
            asyncio.ensure_future(receive(payload, digest, chunks, memory))
            for payload, digest in zip(slow, digests, strict=True)
        ]
        async with asyncio.timeout(10):
            for _ in range(turns):
                await silent.acquire()
            quick = body_of(2 * 2**20)
            received = await receive(Pieces(quick, 65536), hashlib.md5(), chunks, memory)
            assert received.size == len(quick)
            assert not any(task.done() for task in slowly)
            if ends == "cancelled":
                for task in slowly:
                    task.cancel()
                await asyncio.wait(slowly)
            else:
                go_on.set()
                reader = LocalReader(tmp_path)
                await chunks.flush()
                for body, digest, task in zip(bodies, digests, slowly, strict=True):
                    stored = Body(extents=(await task).extents)
                    pieces = pieces_of(stored, reader, 0, len(body))
                    assert b"".join([bytes(one) async for one in pieces]) == body
                    assert digest.digest() == hashlib.md5(body).digest()
                reader.close()
            assert not memory.scarce
            assert not memory.wanted
        await chunks.close()

    asyncio.run(run())


def test_any_range_reads_back_in_bounded_pieces() -> None:
    async def run() -> None:
        size = 2 * UPLOAD_PIECE_BYTES_MAX + 77
        store, body, dice = MemoryStore(), body_of(size), random.Random(7)
        chunks, reader = MemoryChunks(store), MemoryReader(store)
        received = await receive(Pieces(body, 65536), hashlib.md5(), chunks, UploadMemory())
        await chunks.flush()
        stored = Body(extents=received.extents)
        edges = [0, 1, UPLOAD_PIECE_BYTES_MAX - 1, UPLOAD_PIECE_BYTES_MAX, size - 1]
        ranges = [(start, end) for start in edges for end in [*edges, size] if start < end]
        ranges += [sorted((dice.randrange(size), dice.randrange(size))) for _ in range(20)]
        for start, end in ranges:
            found = await read_body(stored, reader, start, end - start)
            if not isinstance(found, bytes):
                pieces = [bytes(piece) async for piece in found]
                assert max(map(len, pieces)) <= READ_PIECE_BYTES
                found = b"".join(pieces)
            assert found == body[start:end]
            copied = StoredPayload(stored, reader, start, end - start)
            joined = bytearray()
            while piece := await copied.read():
                joined += piece
            assert joined == body[start:end]

    asyncio.run(run())


def test_inline_bodies_read_back_in_ranges() -> None:
    async def run() -> None:
        reader = MemoryReader(MemoryStore())
        assert await read_body(Body(inline=b"hello"), reader, 1, 3) == b"ell"
        assert await read_body(Body(), reader, 0, 0) == b""

    asyncio.run(run())


@pytest.mark.parametrize("size", [10, 200_000, 3 * UPLOAD_PIECE_BYTES_MAX])
def test_failing_payload_is_told_as_it_is(size: int) -> None:
    async def run() -> None:
        chunks = MemoryChunks(MemoryStore())
        payload = Pieces(body_of(size), 65536, S3Error("IncompleteBody"))
        with pytest.raises(S3Error, match="IncompleteBody"):
            await receive(payload, hashlib.md5(), chunks, UploadMemory())

    asyncio.run(run())


def test_full_medium_is_told_as_it_is() -> None:
    async def run() -> None:
        chunks = FullChunks(MemoryStore())
        with pytest.raises(MediaFullError):
            await receive(Pieces(body_of(20 * 2**20), 65536), hashlib.md5(), chunks, UploadMemory())

    asyncio.run(run())
