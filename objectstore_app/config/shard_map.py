"""Which pod has which shard: values, their JSON form, and the file that every process of a pod
reads.

Theory of operation. The map lies in ZooKeeper. One process of each pod, the agent, keeps a copy in
`DIR/run/map.json`, replaced whole by a rename; every other process reads that file and knows no
ZooKeeper. The map is a hint of where to ask, never a right: the shard's log decides who may write,
so an old map costs a detour. An entry is only ever replaced by one of a higher epoch. While
ZooKeeper is away the last copy stands.

Shards are named as their folders are: `directory`, `shard-000`, …
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from .errors import ShardMapError

FORMAT = 1
FILE_NAME = "map.json"


class ShardOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a shard: `address` is HOST:PORT of its pod's gateway, `epoch` that of its log."""

    address: str
    epoch: int
    pod: str


class ShardMap(msgspec.Struct, frozen=True, kw_only=True):
    """The owners by shard name; a shard that never had one is missing."""

    shards: dict[str, ShardOwner] = {}
    format: int = FORMAT

    def owner(self, shard: str) -> ShardOwner | None:
        return self.shards.get(shard)

    def with_owner(self, shard: str, owner: ShardOwner) -> ShardMap:
        """This map with one owner replaced; itself when it knows one of that epoch or later."""
        known = self.shards.get(shard)
        if known is not None and known.epoch >= owner.epoch:
            return self
        return ShardMap(shards=self.shards | {shard: owner})

    def merged(self, other: ShardMap) -> ShardMap:
        """Of each shard the later owner of the two maps."""
        result = self
        for shard, owner in other.shards.items():
            result = result.with_owner(shard, owner)
        return result


_decoder = msgspec.json.Decoder(ShardMap)


def encode_map(shard_map: ShardMap) -> bytes:
    return msgspec.json.encode(shard_map, order="sorted")


def decode_map(content: bytes, subject: str) -> ShardMap:
    """Raises ShardMapError."""
    try:
        found = _decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise ShardMapError("read shard map", subject, str(error)) from error
    if found.format > FORMAT:
        raise ShardMapError(
            "read shard map", subject, f"format {found.format} was written by a newer release"
        )
    return found


def write_map(folder: Path, shard_map: ShardMap) -> None:
    """Replace the file in `folder`. Not flushed: it is made anew after a crash. Raises OSError."""
    draft = folder / f".{FILE_NAME}.tmp"
    draft.write_bytes(encode_map(shard_map))
    os.rename(draft, folder / FILE_NAME)


class MapFile:
    """The file as a reader has it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._seen: tuple[int, int] | None = None
        self._map: ShardMap | None = None

    def current(self) -> ShardMap | None:
        """What the file holds now; None until there is one. Costs one look at the file's name
        unless it was replaced, and then returns another object. Raises ShardMapError.
        """
        try:
            found = os.stat(self._path)
            seen = (found.st_ino, found.st_mtime_ns)
            if seen != self._seen:
                self._map = decode_map(self._path.read_bytes(), str(self._path))
                self._seen = seen
        except FileNotFoundError:
            return self._map
        except OSError as error:
            raise ShardMapError("read shard map", str(self._path), str(error)) from error
        return self._map
