"""Bases kept on RADOS, for pods whose disks may be gone.

Theory of operation. A base is made and verified in the shard's folder (`bases.py`), then sent. Any
prefix of a log is true for ever, so it needs no fencing: a base may come from an owner that was
replaced meanwhile. The pointer only ever moves to a later sequence. Before a shard is opened, the
kept base is fetched when neither the view nor the folder's own base is as far; what follows is as
on a local directory.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

from ..media.errors import CorruptDataError, MediaFailedError
from ..media.files_kept import KeptFiles
from ..media.segments import running_checksum
from ..media.store import sync_folder
from .bases import (
    Base,
    base_path,
    decode_manifest,
    encode_manifest,
    newest_base,
    view_sequence,
    write_manifest,
)


def send_base(files: KeptFiles, folder: Path, base: Base) -> Generator[int, None, bool]:
    """Keep a base of the folder and drop the one before it; yields the bytes sent. False when a
    later one is kept already.
    """
    before = files.current()
    held = None if before is None else _decode(before)
    if held is not None and held.sequence >= base.sequence:
        return False
    yield from files.put(_name(base), base_path(folder, base))
    if not files.publish(before, encode_manifest(base)):
        return False
    if held is not None:
        files.remove(_name(held), held.size)
    return True


def keep_base(
    files: KeptFiles, folder: Path, making: Generator[int, None, Base]
) -> Generator[int, None, Base]:
    """Make a base and send it; yields the bytes of each step and returns the base that is kept,
    which may be a later one of somebody else.
    """
    made = yield from making
    yield from send_base(files, folder, made)
    return kept_base(files) or made


def kept_base(files: KeptFiles) -> Base | None:
    """The base that is kept. Raises CorruptDataError when its manifest is damaged."""
    content = files.current()
    return None if content is None else _decode(content)


def verify_kept(files: KeptFiles, base: Base) -> Iterator[int]:
    """Compare a kept base with its checksum; yields the bytes read. Raises CorruptDataError."""
    crc = 0
    for piece in files.get(_name(base), base.size):
        crc = running_checksum(piece, crc)
        yield len(piece)
    if crc != base.crc:
        raise CorruptDataError("read base", _name(base), "it does not match its checksum")


def fetch_base(files: KeptFiles, folder: Path, view: Path) -> Base | None:
    """Bring the kept base into the folder if it is ahead of what is there; None if it is not.

    Raises CorruptDataError, MediaFailedError.
    """
    base = kept_base(files)
    if base is None:
        return None
    own = newest_base(folder)
    there = max(own.sequence if own else 0, view_sequence(view) if view.exists() else 0)
    if there >= base.sequence:
        return None
    draft, crc = folder / "base.tmp", 0
    try:
        with open(draft, "wb") as file:
            for piece in files.get(_name(base), base.size):
                crc = running_checksum(piece, crc)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if crc != base.crc:
            draft.unlink()
            raise CorruptDataError("fetch base", _name(base), "it does not match its checksum")
        os.rename(draft, base_path(folder, base))
        sync_folder(folder)
        write_manifest(folder, base)
    except OSError as error:
        raise MediaFailedError("fetch base", str(folder), str(error)) from error
    return base


def _name(base: Base) -> str:
    """Two pods may make a base of the same sequence, whose bytes differ."""
    return f"base-{base.sequence:016x}-{base.crc:08x}"


def _decode(content: bytes) -> Base:
    base = decode_manifest(content, "the kept base")
    if base is None:
        raise CorruptDataError("read base", "the kept base", "its manifest is damaged")
    return base
