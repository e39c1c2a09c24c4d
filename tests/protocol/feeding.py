"""Every parser is fed the same bytes in several ways: whole, byte by byte, cut in two."""

from __future__ import annotations

from collections.abc import Iterator


def ways(data: bytes) -> Iterator[list[bytes]]:
    """The ways to cut `data` into pieces."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data), max(1, len(data) // 40)):
        yield [data[:cut], data[cut:]]
