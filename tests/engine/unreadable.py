"""A disk that cannot read some bytes of a file: the calls that read files fail there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def spoil(monkeypatch: pytest.MonkeyPatch, path: Path, begin: int, end: int) -> None:
    """From here on nothing between two offsets of a file can be read in this process."""
    spoiled = path.stat()

    def check(fd: int, length: int, offset: int) -> None:
        opened = os.fstat(fd)
        same = (opened.st_dev, opened.st_ino) == (spoiled.st_dev, spoiled.st_ino)
        if same and offset < end and begin < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    pread, preadv = os.pread, os.preadv

    def failing_pread(fd: int, length: int, offset: int) -> bytes:
        check(fd, length, offset)
        return pread(fd, length, offset)

    def failing_preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        check(fd, sum(map(len, buffers)), offset)
        return preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "pread", failing_pread)
    monkeypatch.setattr(os, "preadv", failing_preadv)
