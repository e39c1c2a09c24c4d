"""A segment of the log in memory.

Theory of operation. A process that touches a mapped page which the disk cannot read is ended by a
signal: no error to handle, no place to name. So a file is read once through the kernel before it is
mapped; what that brings into the page cache the mapping finds there.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..core.limits import KIB
from .errors import MediaFailedError

_PIECE_BYTES = 256 * KIB
_PAGE_BYTES = mmap.PAGESIZE
_UNREADABLE = b"\xff" * _PAGE_BYTES


class Mapped(NamedTuple):
    """A file's bytes; in the place of pages that cannot be read, `unreadable`, all bits are set."""

    content: mmap.mmap
    unreadable: tuple[int, ...] = ()

    def let_go(self) -> None:
        """What was read need not stay in memory; it can be read again."""
        if not self.unreadable:
            self.content.madvise(mmap.MADV_DONTNEED)

    def lacks(self, begin: int, end: int) -> bool:
        """Whether something between two offsets could not be read."""
        return any(begin - _PAGE_BYTES < page < end for page in self.unreadable)


def map_whole(fd: int, size: int, begin: int, name: str) -> Mapped:
    """Map a file that can be read from `begin` to its end. Raises: MediaFailedError."""
    for offset, error in _failures(fd, begin, size):
        raise MediaFailedError("read", f"{name} offset {offset}", error)
    return Mapped(mmap.mmap(fd, size, access=mmap.ACCESS_READ))


def map_past_failures(fd: int, size: int) -> Mapped:
    """Map a file, or where it cannot be read a copy of what can."""
    unreadable = tuple(offset for offset, _ in _failures(fd, 0, size))
    if not unreadable:
        return Mapped(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
    copy = mmap.mmap(-1, size)
    for at in range(0, size, _PAGE_BYTES):
        end = min(at + _PAGE_BYTES, size)
        copy[at:end] = _UNREADABLE[: end - at] if at in unreadable else os.pread(fd, end - at, at)
    return Mapped(copy, unreadable)


def _failures(fd: int, begin: int, end: int) -> Iterator[tuple[int, str]]:
    """The pages between two offsets that cannot be read, and why."""
    buffer = bytearray(_PIECE_BYTES)
    for at in range(begin - begin % _PAGE_BYTES, end, _PIECE_BYTES):
        try:
            os.preadv(fd, [buffer], at)
        except OSError:
            for page in range(at, min(at + _PIECE_BYTES, end), _PAGE_BYTES):
                try:
                    os.pread(fd, _PAGE_BYTES, page)
                except OSError as error:
                    yield page, str(error)
