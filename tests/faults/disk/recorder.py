"""The file layer under test: every change below one folder is recorded, and can be made to fail.

Theory of operation. While a `Recorder` is installed, the functions of `os` and `open` that change
files, and a VFS below SQLite's checksum VFS, note each change of a file below the folder as an
`Op`, then do it. Flushes are noted and not done: the tests decide what survives. Files are told
apart by inode numbers of our own, so a rename moves content. A `Fault` makes one operation, or all
from one on, fail as a disk would. What SQLite maps as shared memory is not durable and not noted.

It has to be installed before this process loads the checksum VFS, so it lives in a process of its
own (`cells.py`).
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from objectstore_app.media import local_segments

WRITE, TRUNCATE, SYNC, LINK, UNLINK, RENAME, FOLDER, SYNC_FOLDER = (
    "write", "truncate", "sync", "link", "unlink", "rename", "folder", "sync folder",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR


class Op(NamedTuple):
    """One change. `path` is that of the name that changes, or of a file's folder flush."""

    kind: str
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    path: str = ""
    target: str = ""


@dataclass(frozen=True)
class Fault:
    """From the `at`-th operation of the kind on (1 is the first), `count` of them fail.

    `kind` is `enospc` (writes), `eio` (flushes), `short` (writes do half) or `eio-read`.
    """

    kind: str
    at: int
    count: int = 1

    def hits(self, number: int) -> bool:
        return self.at <= number < self.at + self.count


class Recorder:
    """Changes below `root`, in order."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.ops: list[Op] = []
        self.fault: Fault | None = None
        self.seen: Counter[str] = Counter()
        self.hit = False
        self.end: int | None = None
        self._lock = threading.RLock()
        self._inodes: dict[str, int] = {}
        self._descriptors: dict[int, tuple[int, str]] = {}
        self._next = 1

    def inside(self, path: object) -> str:
        """The path below the root (`.` is the root), empty when it is not; sockets and locks are
        not durable.
        """
        text = os.path.abspath(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else ""
        if text == self.root:
            return "."
        if not text.startswith(self.root + "/"):
            return ""
        name = text[len(self.root) + 1 :]
        return "" if name.startswith("run") or name.endswith("-shm") else name

    def note(self, op: Op) -> None:
        with self._lock:
            self.ops.append(op)

    def due(self, kind: str) -> bool:
        """Count an operation that faults of the kind concern; true when this one is to fail."""
        with self._lock:
            self.seen[kind] += 1
            if self.fault is None or self.fault.kind != kind:
                return False
            hit = self.fault.hits(self.seen[kind])
            self.hit |= hit
            return hit

    def adopt(self, ops: Iterable[Op]) -> None:
        """Go on behind operations that made what lies below the root."""
        for op in ops:
            self.ops.append(op)
            self._next = max(self._next, op.inode + 1)
            if op.kind == LINK:
                self._inodes[op.path] = op.inode
            elif op.kind == UNLINK:
                del self._inodes[op.path]
            elif op.kind == RENAME:
                self._inodes[op.target] = self._inodes.pop(op.path)

    # --- names ---

    def inode(self, path: str, *, make: bool = False) -> int:
        with self._lock:
            found = self._inodes.get(path)
            if found is None:
                if not make:
                    raise KeyError(f"{path} was never made")
                found = self._inodes[path] = self._next
                self._next += 1
                self.note(Op(LINK, found, path=path))
            return found

    def renamed(self, path: str, target: str) -> None:
        with self._lock:
            self._inodes[target] = self._inodes.pop(path)
            self.note(Op(RENAME, self._inodes[target], path=path, target=target))

    def unlinked(self, path: str) -> None:
        with self._lock:
            self.note(Op(UNLINK, self._inodes.pop(path), path=path))

    # --- descriptors ---

    def opened(self, fd: int, path: str, flags: int, *, new: bool) -> None:
        with self._lock:
            if os.path.isdir(f"{self.root}/{path}"):
                self._descriptors[fd] = (0, path)
                return
            self._descriptors[fd] = (self.inode(path, make=new), path)
            if flags & os.O_TRUNC and not new:
                self.note(Op(TRUNCATE, self._descriptors[fd][0]))

    def of(self, fd: int) -> tuple[int, str] | None:
        return self._descriptors.get(fd)

    def closed(self, fd: int) -> None:
        self._descriptors.pop(fd, None)

    def duplicated(self, fd: int, copy: int) -> None:
        if fd in self._descriptors:
            self._descriptors[copy] = self._descriptors[fd]

    def wrote(self, fd: int, offset: int, data: bytes) -> None:
        held = self.of(fd)
        if held is not None and data:
            self.note(Op(WRITE, held[0], offset, data))

    def synced(self, fd: int) -> bool:
        held = self.of(fd)
        if held is None:
            return False
        inode, path = held
        self.note(Op(SYNC, inode) if inode else Op(SYNC_FOLDER, path=path))
        return True


@contextmanager
def installed(recorder: Recorder) -> Iterator[None]:
    """Record until the end of the block."""
    kept: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        real = getattr(owner, name)
        kept.append((owner, name, real))
        setattr(owner, name, make(real))

    _patch_names(recorder, put)
    _patch_descriptors(recorder, put)
    _patch_writes(recorder, put)
    _patch_sizes(recorder, put)
    for owner in (builtins, io):
        put(owner, "open", lambda real: _recorded_open(recorder, real))
    _vfs().recorder = recorder
    try:
        yield
    finally:
        _vfs().recorder = None
        for owner, name, real in reversed(kept):
            setattr(owner, name, real)


Put = Callable[[Any, str, Callable[[Any], Any]], None]


def _patch_names(recorder: Recorder, put: Put) -> None:
    def rename(real: Any) -> Any:
        def patched(source: Any, target: Any, **more: Any) -> None:
            real(source, target, **more)
            if recorder.inside(source):
                recorder.renamed(recorder.inside(source), recorder.inside(target))

        return patched

    def unlink(real: Any) -> Any:
        def patched(path: Any, **more: Any) -> None:
            real(path, **more)
            if recorder.inside(path):
                recorder.unlinked(recorder.inside(path))

        return patched

    def mkdir(real: Any) -> Any:
        def patched(path: Any, *rest: Any, **more: Any) -> None:
            real(path, *rest, **more)
            if recorder.inside(path):
                recorder.note(Op(FOLDER, path=recorder.inside(path)))

        return patched

    put(os, "rename", rename)
    put(os, "replace", rename)
    put(os, "unlink", unlink)
    put(os, "remove", unlink)
    put(os, "mkdir", mkdir)


def _patch_descriptors(recorder: Recorder, put: Put) -> None:
    def opening(real: Any) -> Any:
        def patched(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            name = recorder.inside(path)
            new = bool(name) and not os.path.exists(path)
            fd: int = real(path, flags, *rest, **more)
            if name and (flags & _WRITING or os.path.isdir(path)):
                recorder.opened(fd, name, flags, new=new)
            return fd

        return patched

    def close(real: Any) -> Any:
        def patched(fd: int) -> None:
            recorder.closed(fd)
            real(fd)

        return patched

    def dup(real: Any) -> Any:
        def patched(fd: int, *rest: Any) -> int:
            copy: int = real(fd, *rest)
            recorder.duplicated(fd, copy)
            return copy

        return patched

    def sync(real: Any) -> Any:
        def patched(fd: int) -> None:
            if recorder.of(fd) is None:
                real(fd)
                return
            # A spare that cannot be flushed is given up, and nothing else is.
            spare = threading.current_thread().name == "log-spare"
            if not spare and recorder.due("eio"):
                raise OSError(errno.EIO, "the disk does not flush")
            recorder.synced(fd)

        return patched

    put(os, "open", opening)
    put(os, "close", close)
    put(os, "dup", dup)
    put(os, "fsync", sync)
    put(os, "fdatasync", sync)


def _patch_writes(recorder: Recorder, put: Put) -> None:
    def guarded(fd: int, data: bytes) -> bytes:
        """What of the data gets written."""
        if recorder.of(fd) is None:
            return data
        if recorder.due("enospc"):
            raise OSError(errno.ENOSPC, "the disk is full")
        return data[: max(1, len(data) // 2)] if recorder.due("short") else data

    def write(real: Any) -> Any:
        def patched(fd: int, data: Any) -> int:
            taken = guarded(fd, bytes(data))
            offset = os.lseek(fd, 0, os.SEEK_CUR) if recorder.of(fd) else 0
            done: int = real(fd, taken)
            recorder.wrote(fd, offset, taken[:done])
            return done

        return patched

    def pwrite(real: Any) -> Any:
        def patched(fd: int, data: Any, offset: int) -> int:
            taken = guarded(fd, bytes(data))
            done: int = real(fd, taken, offset)
            recorder.wrote(fd, offset, taken[:done])
            return done

        return patched

    def pwritev(_: Any) -> Any:
        def patched(fd: int, buffers: Sequence[Any], offset: int) -> int:
            return os.pwrite(fd, b"".join(bytes(one) for one in buffers), offset)

        return patched

    def pread(real: Any) -> Any:
        def patched(fd: int, length: int, offset: int) -> bytes:
            if recorder.due("eio-read"):
                raise OSError(errno.EIO, "the disk does not read")
            found: bytes = real(fd, length, offset)
            return found

        return patched

    put(os, "write", write)
    put(os, "pwrite", pwrite)
    put(os, "pwritev", pwritev)
    put(os, "pread", pread)


def _patch_sizes(recorder: Recorder, put: Put) -> None:
    def truncate(real: Any) -> Any:
        def patched(fd: int, size: int) -> None:
            real(fd, size)
            held = recorder.of(fd)
            if held is not None:
                recorder.note(Op(TRUNCATE, held[0], size))

        return patched

    def truncate_path(real: Any) -> Any:
        def patched(path: Any, size: int) -> None:
            real(path, size)
            name = recorder.inside(path)
            if name:
                recorder.note(Op(TRUNCATE, recorder.inode(name), size))

        return patched

    def punch(real: Any) -> Any:
        def patched(fd: int, mode: int, offset: int, length: int) -> int:
            if recorder.of(fd) is not None and recorder.due("enospc"):
                ctypes.set_errno(errno.ENOSPC)
                return -1
            failed: int = real(fd, mode, offset, length)
            hole = min(length, os.fstat(fd).st_size - offset)
            if not failed:
                recorder.wrote(fd, offset, bytes(max(0, hole)))
            return failed

        return patched

    put(os, "ftruncate", truncate)
    put(os, "truncate", truncate_path)
    put(local_segments._libc, "fallocate", punch)


class _Raw(io.RawIOBase):
    """A file opened for writing, over the recorded functions."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def _recorded_open(recorder: Recorder, real: Any) -> Any:
    def patched(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if not recorder.inside(file) or not set(mode) & set("wax+"):
            return real(file, mode, *rest, **more)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if "w" in mode else os.O_APPEND)
        buffered = io.BufferedWriter(_Raw(os.open(file, flags, 0o644)))
        return buffered if "b" in mode else io.TextIOWrapper(buffered)

    return patched


# --- SQLite ---


class RecordingVfs(apsw.VFS):
    """Stands between SQLite's checksum VFS and the real one."""

    def __init__(self) -> None:
        super().__init__("recording", base="unix", makedefault=True)
        self.recorder: Recorder | None = None

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        recorder = self.recorder
        below = recorder.inside(path) if recorder is not None and path else ""
        return _VfsFile(name, flags, recorder if below else None, below)

    def xDelete(self, path: str, sync: bool) -> None:
        super().xDelete(path, sync)
        below = self.recorder.inside(path) if self.recorder is not None else ""
        if self.recorder is not None and below:
            self.recorder.unlinked(below)
            if sync:
                self.recorder.note(Op(SYNC_FOLDER, path=os.path.dirname(below)))


class _VfsFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], recorder: Recorder | None, path: str) -> None:
        self._recorder = recorder
        new = recorder is not None and not os.path.exists(f"{recorder.root}/{path}")
        if flags[0] & apsw.SQLITE_OPEN_READONLY:
            # A reader that is the last to close wants a lock that such a descriptor does not get;
            # SQLite does without it, apsw would raise what it is told on the way.
            flags[0] ^= apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_READWRITE
        super().__init__("unix", name, flags)
        self._inode = recorder.inode(path, make=new) if recorder is not None else 0
        # SQLite flushes the folder with the first flush of a journal that it made.
        self._folder = os.path.dirname(path)
        self._new = new and not path.endswith(".sqlite")

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._recorder is not None and self._recorder.due("enospc"):
            raise apsw.FullError("the disk is full")
        super().xWrite(data, offset)
        if self._recorder is not None:
            self._recorder.note(Op(WRITE, self._inode, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        if self._recorder is not None:
            self._recorder.note(Op(TRUNCATE, self._inode, size))

    def xSync(self, flags: int) -> None:
        if self._recorder is None:
            super().xSync(flags)
            return
        if self._recorder.due("eio"):
            raise apsw.IOError("the disk does not flush")
        self._recorder.note(Op(SYNC, self._inode))
        if self._new:
            self._recorder.note(Op(SYNC_FOLDER, path=self._folder))
            self._new = False


_made: list[RecordingVfs] = []


def _vfs() -> RecordingVfs:
    if not _made:
        if "cksmvfs" in apsw.vfs_names():
            raise RuntimeError("the checksum VFS was loaded before the recorder")
        _made.append(RecordingVfs())
    return _made[0]
