"""The directory's generation: a counter that readers map, incremented after a commit of the
directory and before its answers (`cache.py` says what for).

Eight bytes, little-endian. The highest bit says that the writer lost its logs to another store:
what the views show may be old by now, and nobody may read them. It goes with the next increment.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

GENERATION = struct.Struct("<Q")
SUSPENDED = 1 << 63


class Generation:
    """The writer's side."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(fd).st_size < GENERATION.size:
                os.pwrite(fd, GENERATION.pack(0), 0)
            self._map = mmap.mmap(fd, GENERATION.size)
        finally:
            os.close(fd)

    def advance(self) -> None:
        (value,) = GENERATION.unpack_from(self._map)
        GENERATION.pack_into(self._map, 0, (value & ~SUSPENDED) + 1)

    def suspend(self) -> None:
        """Keep readers from the views until the next `advance`."""
        (value,) = GENERATION.unpack_from(self._map)
        GENERATION.pack_into(self._map, 0, value | SUSPENDED)

    def close(self) -> None:
        self._map.close()
