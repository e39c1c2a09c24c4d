"""The file of a shard's next log segment, filled with zeros ahead of use.

Theory of operation. A flush of bytes that overwrite written blocks needs no entry in the file
system's journal, which takes half the time of a flush that lets a file grow. So a thread writes
the next segment's file in advance, in small flushed steps with pauses, for it shares the disk with
the log's own flushes; a log that is faster than the thread grows its file as it would without. The
file counts for nothing until the log gives it its header and its name. What goes wrong here costs
speed, never a write: the file is given up.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ..core.limits import MIB
from ..runtime.logging import event

SPARE_NAME = "log-spare.seg.tmp"
_STEP = bytes(1 * MIB)
_PAUSE_S = 0.01


class SpareSegment:
    """Belongs to one log; its thread touches nothing but the spare file."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """A size of 0: there never is one."""
        self._path = folder / SPARE_NAME
        self._size_bytes = size_bytes
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._fd = -1
        self._failed = size_bytes == 0

    def prepare(self) -> None:
        """Begin to make it, unless it is there, in the making, or failed once."""
        if self._thread is None and not self._failed:
            self._stop.clear()
            self._thread = threading.Thread(target=self._fill, name="log-spare", daemon=True)
            self._thread.start()

    @property
    def ready(self) -> bool:
        return self._fd >= 0

    def take(self) -> tuple[int, Path] | None:
        """Hand over the descriptor and where the file lies; None while there is none."""
        if self._fd < 0:
            return None
        fd, self._fd, self._thread = self._fd, -1, None
        return fd, self._path

    def discard(self) -> bool:
        """Give the room back; false when none was taken."""
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        self._stop.set()
        thread.join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)
        return True

    def _fill(self) -> None:
        fd = -1
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o644)
            for offset in range(0, self._size_bytes, len(_STEP)):
                written = os.pwrite(fd, _STEP, offset)
                os.fdatasync(fd)
                if written < len(_STEP) or self._stop.wait(_PAUSE_S):
                    break
            else:
                os.fsync(fd)
                self._fd, fd = fd, -1
        except OSError as error:
            self._failed = True
            event("log_spare_given_up", reason=str(error))
        finally:
            if fd >= 0:
                os.close(fd)
