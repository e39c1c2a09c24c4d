"""What the process of a shard tells those who read the view beside it: whether it has the log.

Theory of operation. Three numbers of eight bytes, little-endian, in a file of `DIR/run` that the
shard's process writes and readers map. `epoch` is that under which it has the log, 0 while it has
not: as a standby, or since it was fenced. `opened` is another number whenever another file stands
in the view's place. `counter` goes up with each commit of the directory, before its answers
(`cache.py` says what for).

The file says what its process believed last, not what is true: a process may be dead or paused
while another one has the log. Who answers reads confirms the epoch at the medium. An epoch's view
is complete: what its process acknowledged was in it before, and the view of a dead process stays
right until a later epoch begins.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from ..core.ids import ShardId
from ..media.segments import shard_folder

_NUMBER = struct.Struct("<Q")
_EPOCH, _OPENED, _COUNTER = 0, 8, 16
_BYTES = 24
COUNTER_MASK = (1 << 32) - 1


def holding_path(run: Path, shard: ShardId) -> Path:
    """Where a pod's `run` folder has the shard's file. A pod that starts removes what is there."""
    return run / f"{shard_folder(shard)}.held"


class Holding:
    """A shard's file, mapped: by its one process to write, by others to read."""

    def __init__(self, path: Path, *, write: bool) -> None:
        """Made when missing. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(fd).st_size < _BYTES:
                os.ftruncate(fd, _BYTES)
            access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
            self._map = mmap.mmap(fd, _BYTES, access=access)
        finally:
            os.close(fd)

    @property
    def epoch(self) -> int:
        return self._get(_EPOCH)

    @property
    def opened(self) -> int:
        return self._get(_OPENED)

    @property
    def generation(self) -> int:
        """Of the directory, larger than all that an earlier owner told."""
        return self.epoch << 32 | self._get(_COUNTER) & COUNTER_MASK

    def hold(self, epoch: int) -> None:
        """The log is ours and the view shows all of it: reads may begin."""
        self._set(_EPOCH, epoch)

    def leave(self) -> None:
        """The log is not ours, or will not be from now on."""
        self._set(_EPOCH, 0)

    def replaced(self) -> None:
        """Another file stands in the view's place; said before `hold`."""
        self._set(_OPENED, self.opened + 1)

    def advance(self) -> None:
        """Something of the directory has changed; said before it is answered."""
        self._set(_COUNTER, self._get(_COUNTER) + 1)

    def close(self) -> None:
        self._map.close()

    def _get(self, offset: int) -> int:
        value: int = _NUMBER.unpack_from(self._map, offset)[0]
        return value

    def _set(self, offset: int, value: int) -> None:
        _NUMBER.pack_into(self._map, offset, value)
