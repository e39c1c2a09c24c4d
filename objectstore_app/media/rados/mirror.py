"""A copy of the newest log segments in a folder of the machine that works on them.

Theory of operation. What is appended to a shard's log, and what a standby replays of it, is also
written to files beside the view, at the same offsets, never flushed. Bytes of a log never change,
so a mirror is a cache that needs no care: a reader takes from it only what matches the checksum of
its row, and asks RADOS for everything else: a segment that is not here, a hole where nobody wrote,
what a power failure left. Files of segments that are too old, and all of them when the disk is
short of room, are emptied and removed; whoever still has one open finds nothing in it.

Without it each small GET would be a read in RADOS; with it that is for what lies further back.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from ...core.ids import ShardId
from ...core.limits import (
    MIRROR_BYTES_MAX,
    MIRROR_FREE_BYTES_MIN,
    OPEN_MIRRORS_MAX,
    RADOS_SEGMENT_BYTES_MAX,
)
from ...core.room import free_bytes
from ...runtime.logging import event
from ..api import Extent
from ..segments import checksum, log_counter, log_segment, shard_folder

_PREFIX, _SUFFIX = "mirror-", ".seg"


def mirror_path(data_dir: Path, segment: int) -> Path:
    """Where a log segment is mirrored in a data folder."""
    folder = shard_folder(ShardId(segment >> 32))
    return data_dir / folder / f"{_PREFIX}{log_counter(segment):08d}{_SUFFIX}"


class LogMirror:
    """The mirror of one shard, for the one process that writes it. It only helps: what it cannot
    write it leaves out, and says so.
    """

    def __init__(
        self,
        data_dir: Path,
        shard: ShardId,
        *,
        bytes_max: int = MIRROR_BYTES_MAX,
        free_bytes_min: int = MIRROR_FREE_BYTES_MIN,
    ) -> None:
        self._data_dir = data_dir
        self._shard = shard
        self._segments_max = max(1, bytes_max // RADOS_SEGMENT_BYTES_MAX)
        self._free_bytes_min = free_bytes_min
        self._fd = -1
        self._segment = 0
        """What the open file mirrors, or was to mirror."""

    def put(self, segment: int, offset: int, data: bytes | memoryview) -> None:
        """Mirror bytes that are in the log."""
        try:
            if segment != self._segment:
                self._begin(segment)
            if self._fd >= 0:
                self._write(offset, memoryview(data))
        except OSError as error:
            self._leave_out(str(error))

    def room(self) -> int:
        """How much is free where the mirror lies; it goes first when that gets little. Raises
        OSError.
        """
        folder = self._data_dir / shard_folder(self._shard)
        free = free_bytes(folder)
        if free < self._free_bytes_min and self._counters():
            self._leave_out(f"{free} bytes are free")
            free = free_bytes(folder)
        return free

    def close(self) -> None:
        """What is mirrored stays."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment = -1, 0

    def _begin(self, segment: int) -> None:
        self.close()
        self._segment = segment
        path = mirror_path(self._data_dir, segment)
        if free_bytes(path.parent) < self._free_bytes_min + RADOS_SEGMENT_BYTES_MAX:
            return
        for counter in self._counters():
            if counter <= log_counter(segment) - self._segments_max:
                self._remove(counter)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._fd, data, offset)
            offset += written
            data = data[written:]

    def _leave_out(self, reason: str) -> None:
        """Nothing is mirrored until the log's next segment."""
        event("mirror_removed", shard=shard_folder(self._shard), reason=reason)
        segment = self._segment
        self.close()
        self._segment = segment
        with suppress(OSError):
            for counter in self._counters():
                self._remove(counter)

    def _counters(self) -> list[int]:
        folder = self._data_dir / shard_folder(self._shard)
        texts = (path.stem.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
        return [int(text) for text in texts if text.isdigit()]

    def _remove(self, counter: int) -> None:
        path = mirror_path(self._data_dir, log_segment(self._shard, counter))
        os.truncate(path, 0)  # the room of a file that somebody has open comes back, too
        path.unlink()


class MirrorReader:
    """Reads what is mirrored in a data folder, of all shards. Belongs to one loop; a read blocks it
    for less than a hop to a thread takes, as long as the page cache has the bytes.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fds: OrderedDict[int, int] = OrderedDict()

    def read(self, extent: Extent) -> bytes | None:
        """All bytes of an extent in a log, verified; None when they are not here."""
        try:
            fd = self._fds.get(extent.segment)
            if fd is None:
                fd = self._open(extent.segment)
            data = os.pread(fd, extent.length, extent.offset)
        except OSError:
            return None
        if len(data) == extent.length and checksum(data) == extent.crc:
            return data
        os.close(self._fds.pop(extent.segment))  # it may have been removed, and be there anew
        return None

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, segment: int) -> int:
        fd = os.open(mirror_path(self._data_dir, segment), os.O_RDONLY | os.O_CLOEXEC)
        if len(self._fds) >= OPEN_MIRRORS_MAX:
            os.close(self._fds.popitem(last=False)[1])
        self._fds[segment] = fd
        return fd
