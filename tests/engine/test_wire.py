"""Frames between processes, however the stream is cut."""

from __future__ import annotations

import random

import pytest

from objectstore_app.core.limits import RPC_FRAME_BYTES_MAX
from objectstore_app.metadata_service.wire import (
    BUFFER_BYTES,
    BUFFER_BYTES_KEPT,
    LENGTH,
    FrameError,
    FrameReader,
)


def framed(content: bytes) -> bytes:
    return LENGTH.pack(len(content)) + content


def receive(reader: FrameReader, data: bytes, step: int) -> list[bytes]:
    """As a transport does: as many bytes as there are, and as there is room for."""
    found = []
    while data:
        space = reader.space()
        piece = data[: min(step, len(space))]
        space[: len(piece)] = piece
        found += [bytes(content) for content in reader.received(len(piece))]
        data = data[len(piece) :]
    return found


@pytest.mark.parametrize("step", [1, 3, 4, 5, 100, 1 << 30])
def test_frames_come_out_as_they_went_in(step: int) -> None:
    contents = [b"", b"a", b"bc" * 50, b"", b"d" * 1000]
    stream = b"".join(map(framed, contents))
    assert receive(FrameReader(), stream, step) == contents


@pytest.mark.parametrize("seed", range(10))
def test_frames_of_any_size_in_pieces_of_any_size(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice((10, 5000, BUFFER_BYTES - 4, BUFFER_BYTES, 700_000)) for _ in range(12)]
    contents = [rng.randbytes(size) for size in sizes]
    stream = b"".join(map(framed, contents))
    reader = FrameReader()
    found: list[bytes] = []
    while stream:
        size = rng.choice((1, 100, 70_000, 400_000))
        found += receive(reader, stream[:size], 1 << 30)
        stream = stream[size:]
    assert found == contents


def test_a_frame_that_is_too_large_is_refused_before_it_is_received() -> None:
    for reader in (FrameReader(), FrameReader(100)):
        with pytest.raises(FrameError):
            receive(reader, LENGTH.pack(RPC_FRAME_BYTES_MAX + 1), 4)


def test_the_memory_of_a_large_frame_is_given_back() -> None:
    reader = FrameReader()
    content = bytes(BUFFER_BYTES_KEPT + 1)
    assert receive(reader, framed(content), 100_000) == [content]
    assert len(reader.space()) == BUFFER_BYTES
    assert receive(reader, framed(b"next"), 100) == [b"next"]
