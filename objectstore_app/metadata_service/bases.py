"""Bases: verified copies of a shard's view, from which it is rebuilt where the log is no more.

Theory of operation. The log alone can rebuild a view as long as it is whole. A *base* is a copy of
the view as of some position, flushed, read back and checked; together with the log behind that
position it rebuilds the view just as well, and what lies before it is needed only for the bodies
that rows still name. Atlas makes a base now and then and drops the one before it. The base is the
file `base-SEQUENCE.sqlite` and counts once its manifest `base-SEQUENCE.json` is there, which is
written last (docs/formats/view.md).

A view may be older than the base: its commits are not flushed one by one, the base is. So a start
puts the base in the view's place whenever the view is missing or behind it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import apsw
import msgspec

from ..media.errors import CorruptDataError, MediaFailedError
from ..media.segments import checksum, running_checksum
from ..media.store import sync_folder, write_durably
from .view import is_damage, open_reader, read_position

BASE_FORMAT = 1
COPY_PAGES = 256
_PAGE_BYTES = 4096
_READ_BYTES = 1024 * 1024


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest. The base holds what the log adds up to until its record `sequence`, which ends at
    `offset` of `segment`. `crc` is the CRC32C of the file's `size` bytes, `check` that of this
    manifest with `check` 0.
    """

    format: int
    sequence: int
    segment: int
    offset: int
    epoch: int
    size: int
    crc: int
    made_ms: int
    check: int = 0


def base_path(folder: Path, base: Base) -> Path:
    """Where the base's database lies in the shard's folder."""
    return folder / f"base-{base.sequence:016x}.sqlite"


def newest_base(folder: Path) -> Base | None:
    """The newest base of a shard; that its file is as it was written is for `verify` to say."""
    for manifest in sorted(folder.glob("base-*.json"), reverse=True):
        base = _read_manifest(manifest)
        if base is not None and base_path(folder, base).exists():
            return base
    return None


def make_base(source: apsw.Connection, folder: Path, now_ms: int) -> Generator[int, None, Base]:
    """Copy the view that `source` reads into a new base and drop those before it. Yields after each
    step with the bytes copied, for the caller to pace; returns the base, durable and verified.

    The copy is of one snapshot, which is held as long as it takes. Raises CorruptDataError,
    MediaFailedError; the base before is kept then.
    """
    drop_drafts(folder)
    draft = folder / "base.tmp"
    try:
        base = yield from _copy(source, draft, now_ms)
        os.rename(draft, base_path(folder, base))
        sync_folder(folder)
        write_manifest(folder, base)
        for older in folder.glob("base-*.json"):
            if older.stem != base_path(folder, base).stem:
                older.unlink()
        drop_drafts(folder)
    except apsw.Error as error:
        kind = CorruptDataError if is_damage(error) else MediaFailedError
        raise kind("make base", str(folder), f"the view cannot be copied: {error}") from error
    except OSError as error:
        raise MediaFailedError("make base", str(folder), str(error)) from error
    return base


def verify(folder: Path, base: Base) -> Iterator[int]:
    """Compare the base's file with its checksum; yields the bytes read. Raises CorruptDataError."""
    crc, size = 0, 0
    for piece in _pieces(base_path(folder, base)):
        crc = running_checksum(piece, crc)
        size += len(piece)
        yield len(piece)
    if (crc, size) != (base.crc, base.size):
        raise CorruptDataError(
            "read base", str(base_path(folder, base)), "it does not match its checksum"
        )


def place_base(folder: Path, view: Path) -> Base | None:
    """Put a copy of the newest base where a view is wanted; None when there is no base.

    Durable on return. Raises CorruptDataError.
    """
    base = newest_base(folder)
    if base is None:
        return None
    draft = view.with_name(f".{view.name}.tmp")
    with open(draft, "wb") as file:
        crc = 0
        for piece in _pieces(base_path(folder, base)):
            crc = running_checksum(piece, crc)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if crc != base.crc:
        draft.unlink()
        raise CorruptDataError(
            "restore view", str(base_path(folder, base)), "it does not match its checksum"
        )
    for suffix in ("-wal", "-shm"):
        Path(f"{view}{suffix}").unlink(missing_ok=True)
    os.rename(draft, view)
    sync_folder(view.parent)
    return base


def restore_view(folder: Path, view: Path) -> Base | None:
    """Before a shard is opened: place the base if the view is missing or behind it, and say which.

    A view that cannot be read is left for `open_view` to refuse. Raises CorruptDataError.
    """
    return None if holds_base(folder, view) else place_base(folder, view)


def holds_base(folder: Path, view: Path) -> bool:
    """Whether the view is there and not behind the newest base, if there is one."""
    base = newest_base(folder)
    return base is None or (view.exists() and view_sequence(view) >= base.sequence)


def drop_drafts(folder: Path) -> None:
    """Remove what an interrupted `make_base` left: drafts, and databases without a manifest."""
    for draft in folder.glob("base.tmp*"):
        draft.unlink()
    for path in folder.glob("base-*.sqlite*"):
        if not (folder / f"{path.name[:21]}.json").exists():
            path.unlink()


def _copy(source: apsw.Connection, draft: Path, now_ms: int) -> Generator[int, None, Base]:
    target = apsw.Connection(str(draft), vfs=source.open_vfs)
    try:
        # The VFS computes checksums once it has seen in page 1 that there is room for them, and
        # the copy may write other pages first: those that come from a write-ahead log have none.
        target.reserve_bytes(reserve=source.reserve_bytes())
        target.execute("CREATE TABLE begun (here)")
        # Inside a transaction the copy is of one snapshot and never begins anew.
        source.execute("BEGIN")
        try:
            read_position(source)
            with target.backup("main", source, "main") as copying:
                while not copying.done:
                    copying.step(COPY_PAGES)
                    yield COPY_PAGES * _PAGE_BYTES
        finally:
            source.execute("ROLLBACK")
        target.execute("PRAGMA journal_mode=DELETE").fetchall()
    finally:
        target.close()
    _sync_and_drop_cache(draft)
    copy = apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READONLY, vfs=source.open_vfs)
    try:
        ((found,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise CorruptDataError("make base", str(draft), f"the view is damaged: {found}")
        sequence, segment, offset, epoch = read_position(copy)
    finally:
        copy.close()
    crc, size = 0, 0
    for piece in _pieces(draft):
        crc = running_checksum(piece, crc)
        size += len(piece)
        yield len(piece)
    return Base(
        format=BASE_FORMAT, sequence=sequence, segment=segment, offset=offset, epoch=epoch,
        size=size, crc=crc, made_ms=now_ms,
    )  # fmt: skip


def _sync_and_drop_cache(path: Path) -> None:
    """Flush the file; what is read afterwards comes from the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_READ_BYTES):
            yield piece


def view_sequence(view: Path) -> int:
    """Up to which record the view has applied the log; 0 for one that was just begun, or whose
    tables a power loss took: until the first checkpoint they are only in its write-ahead log.
    """
    if view.stat().st_size == 0:
        return 0
    try:
        reader = open_reader(view)
    except MediaFailedError as error:
        return 0 if isinstance(error.__cause__, apsw.SQLError) else 1 << 62
    try:
        sequence, *_ = read_position(reader)
    finally:
        reader.close()
    return sequence


def write_manifest(folder: Path, base: Base) -> None:
    """With it the base counts."""
    write_durably(base_path(folder, base).with_suffix(".json"), encode_manifest(base) + b"\n")


def encode_manifest(base: Base) -> bytes:
    unchecked = msgspec.structs.replace(base, check=0)
    check = checksum(msgspec.json.encode(unchecked))
    return msgspec.json.encode(msgspec.structs.replace(base, check=check))


def _read_manifest(path: Path) -> Base | None:
    return decode_manifest(path.read_bytes(), str(path))


def decode_manifest(content: bytes, subject: str) -> Base | None:
    """None when it is not whole. Raises CorruptDataError when a newer release wrote it."""
    try:
        base = msgspec.json.decode(content, type=Base)
    except msgspec.MsgspecError:
        return None
    if base.format > BASE_FORMAT:
        raise CorruptDataError(
            "read base", subject, f"format {base.format} was written by a newer release"
        )
    plain = msgspec.json.encode(msgspec.structs.replace(base, check=0))
    return base if checksum(plain) == base.check else None
