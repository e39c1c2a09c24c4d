"""Bases kept on RADOS, for pods whose disks may be gone.

Theory of operation. A base is made and verified in the shard's folder (`bases.py`), then sent. Any
prefix of a log is true for ever, so it needs no fencing: a base may come from an owner that was
replaced meanwhile. The pointer only ever moves to a later sequence. Before a shard is opened, the
kept base is fetched when neither the view nor the folder's own base is as far; what follows is as
on a local directory.
"""

from __future__ import annotations

import os
from collections.abc import Generator
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


def fetch_base(files: KeptFiles, folder: Path, view: Path) -> Base | None:
    """Bring the kept base into the folder if it is ahead of what is there; None if it is not.

    Raises CorruptDataError, MediaFailedError.
    """
    content = files.current()
    if content is None:
        return None
    base = _decode(content)
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
