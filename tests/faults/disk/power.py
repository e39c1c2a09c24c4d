"""What a disk may hold after a power loss: built from a recording, by seed.

The rules are those that POSIX gives and no more. A flush of a file makes its content and size
durable, one of a folder the names in it. Of what was written since, each sector may be there or
not; a file's size may be any that it had since its last flush. Changes of names in one folder
survive in order, up to some point. A mode chooses among all that:

    kill        the process died, the machine lives: everything is there
    lost        nothing that was not flushed is there
    torn        all is there but the last write, of which some sectors are missing
    reordered   any sectors, any size, any number of name changes
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .recorder import FOLDER, LINK, RENAME, SYNC, SYNC_FOLDER, TRUNCATE, UNLINK, WRITE, Op

KILL, LOST, TORN, REORDERED = "kill", "lost", "torn", "reordered"
MODES = (KILL, LOST, TORN, REORDERED)
SECTOR_BYTES = 512
_FOLDER_INODE = 0


@dataclass
class _File:
    """`durable` is the content as of the last flush; `pending` what came after."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)


@dataclass
class _Names:
    """The names in one folder, likewise; a folder's inode is 0."""

    durable: dict[str, int] = field(default_factory=dict)
    pending: list[Op] = field(default_factory=list)


def build(ops: Iterable[Op], mode: str, rng: random.Random, folder: Path) -> None:
    """Make in `folder` what may be there when the power goes after these operations."""
    files: dict[int, _File] = {}
    names: dict[str, _Names] = {".": _Names()}
    for op in ops:
        _follow(op, files, names)
    folder.mkdir(parents=True)
    _make(".", folder, files, names, mode, rng)


def _follow(op: Op, files: dict[int, _File], names: dict[str, _Names]) -> None:
    if op.kind in (WRITE, TRUNCATE):
        files[op.inode].pending.append(op)
    elif op.kind == SYNC:
        file = files[op.inode]
        for one in file.pending:
            _apply(file.durable, one)
        file.pending.clear()
    elif op.kind == SYNC_FOLDER:
        held = names[op.path or "."]
        for one in held.pending:
            _rename(held.durable, one)
        held.pending.clear()
    else:
        if op.kind == LINK:
            files[op.inode] = _File()
        elif op.kind == FOLDER:
            names[op.path] = _Names()
        names[_parent(op.path)].pending.append(op)


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _apply(content: bytearray, op: Op) -> None:
    end = op.offset + len(op.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if op.kind == TRUNCATE:
        del content[op.offset :]
    else:
        content[op.offset : end] = op.data


def _rename(names: dict[str, int], op: Op) -> None:
    name = PurePosixPath(op.path).name
    if op.kind == LINK:
        names[name] = op.inode
    elif op.kind == FOLDER:
        names[name] = _FOLDER_INODE
    elif op.kind == UNLINK:
        names.pop(name, None)
    elif op.kind == RENAME:
        names.pop(name, None)
        names[PurePosixPath(op.target).name] = op.inode


def _make(
    path: str,
    folder: Path,
    files: dict[int, _File],
    names: dict[str, _Names],
    mode: str,
    rng: random.Random,
) -> None:
    held = names[path]
    found = dict(held.durable)
    survive = {LOST: 0, REORDERED: rng.randint(0, len(held.pending))}.get(mode, len(held.pending))
    for op in held.pending[:survive]:
        _rename(found, op)
    for name, inode in sorted(found.items()):
        if inode == _FOLDER_INODE:
            (folder / name).mkdir()
            _make(name if path == "." else f"{path}/{name}", folder / name, files, names, mode, rng)
        else:
            (folder / name).write_bytes(_content(files[inode], mode, rng))


def _content(file: _File, mode: str, rng: random.Random) -> bytes:
    content = bytearray(file.durable)
    if mode == LOST or not file.pending:
        return bytes(content)
    sizes = [len(content)]
    for number, op in enumerate(file.pending):
        last = number == len(file.pending) - 1
        if mode == KILL or (mode == TORN and not last) or op.kind == TRUNCATE:
            if mode != REORDERED or rng.random() < 0.5:
                _apply(content, op)
        else:
            _tear(content, op, rng)
        sizes.append(len(content))
    if mode == REORDERED:
        size = rng.choice(sizes)
        content.extend(bytes(max(0, size - len(content))))
        del content[size:]
    return bytes(content)


def _tear(content: bytearray, op: Op, rng: random.Random) -> None:
    """Write some of the sectors; the file is as long as if all had been."""
    end = op.offset + len(op.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    kept = rng.random()
    at = op.offset
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if rng.random() < kept:
            content[at:stop] = op.data[at - op.offset : stop - op.offset]
        at = stop
