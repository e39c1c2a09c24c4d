"""Files that are kept where a lost disk does not take them: the seam of bases (`bases.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class KeptFiles(Protocol):
    """The files of one shard, and the pointer that names the one that counts."""

    def current(self) -> bytes | None:
        """What the pointer holds; None when nothing was published yet."""

    def publish(self, before: bytes | None, after: bytes) -> bool:
        """Set the pointer; false when it does not hold `before` any more."""

    def put(self, name: str, path: Path) -> Iterator[int]:
        """Write a file; yields the bytes of each step. Durable at the end."""

    def get(self, name: str, size: int) -> Iterator[bytes]:
        """The pieces of a file of `size` bytes. Raises CorruptDataError."""

    def remove(self, name: str, size: int) -> None:
        """Of a file that the pointer does not name any more."""
