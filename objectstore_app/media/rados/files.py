"""Whole files kept on RADOS, cut into objects: the bases of a shard's view.

Theory of operation. A file's pieces are written first; then the *pointer*, one small object, names
it. A pointer is replaced only by who knows what it says (compare and replace), so two that publish
at once do not undo each other. Pieces that no pointer names are remains of an interrupted upload.
What a pointer holds is the caller's; that pieces are as they were written is for him to check.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...core.ids import ShardId
from ...core.limits import MIB
from ..errors import CorruptDataError, MediaFailedError
from ..segments import shard_folder
from .objects import GuardError, Objects

PIECE_BYTES = 8 * MIB
POINTER_BYTES_MAX = 64 * 1024


class RadosFiles:
    """The files of one shard."""

    def __init__(self, pool: Objects, shard: ShardId) -> None:
        self._pool = pool
        self._folder = shard_folder(shard)

    def current(self) -> bytes | None:
        """What the pointer holds; None when nothing was published yet."""
        return self._pool.read(self._pointer, 0, POINTER_BYTES_MAX)

    def publish(self, before: bytes | None, after: bytes) -> bool:
        """Set the pointer; false when it does not hold `before` any more. Contents must differ in
        more than their end.
        """
        if before is None:
            return self._pool.create(self._pointer, after)
        try:
            self._pool.replace_if(self._pointer, before, 0, after)
        except GuardError:
            return False
        return True

    def put(self, name: str, path: Path) -> Iterator[int]:
        """Write a file's pieces; yields the bytes of each. Durable at the end."""
        try:
            with open(path, "rb") as file:
                number = 0
                while piece := file.read(PIECE_BYTES):
                    self._pool.put(self._piece(name, number), piece)
                    number += 1
                    yield len(piece)
        except OSError as error:
            raise MediaFailedError("keep file", str(path), str(error)) from error

    def get(self, name: str, size: int) -> Iterator[bytes]:
        """The pieces of a file of `size` bytes. Raises CorruptDataError."""
        for number in range(-(-size // PIECE_BYTES)):
            wanted = min(PIECE_BYTES, size - number * PIECE_BYTES)
            piece = self._pool.read(self._piece(name, number), 0, wanted)
            if piece is None or len(piece) != wanted:
                raise CorruptDataError("read file", self._piece(name, number), "it is not whole")
            yield piece

    def remove(self, name: str, size: int) -> None:
        """Of a file that the pointer does not name any more."""
        for number in range(-(-size // PIECE_BYTES)):
            self._pool.remove(self._piece(name, number))

    @property
    def _pointer(self) -> str:
        return f"{self._folder}/base"

    def _piece(self, name: str, number: int) -> str:
        return f"{self._folder}/{name}.{number:05d}"
