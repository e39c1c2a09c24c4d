"""The shard map and its copy in a pod's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_app.config.errors import ShardMapError
from objectstore_app.config.shard_map import (
    FILE_NAME,
    MapFile,
    ShardMap,
    ShardOwner,
    decode_map,
    encode_map,
    write_map,
)


def owner(epoch: int, pod: str = "pod") -> ShardOwner:
    return ShardOwner(address="10.244.1.2:7201", epoch=epoch, pod=pod)


def test_later_owner_replaces_an_earlier_one_and_no_other() -> None:
    known = ShardMap().with_owner("shard-000", owner(5))
    assert known.with_owner("shard-000", owner(5, "other")) is known
    assert known.with_owner("shard-000", owner(4, "other")) is known
    assert known.with_owner("shard-000", owner(6, "other")).owner("shard-000") == owner(6, "other")


def test_merged_map_has_the_later_owner_of_each_shard() -> None:
    one = ShardMap(shards={"directory": owner(7), "shard-000": owner(1)})
    other = ShardMap(shards={"directory": owner(3), "shard-000": owner(2), "shard-001": owner(9)})
    merged = ShardMap(shards={"directory": owner(7), "shard-000": owner(2), "shard-001": owner(9)})
    assert one.merged(other) == other.merged(one) == merged


def test_map_is_what_was_encoded() -> None:
    found = ShardMap(shards={"directory": owner(7)})
    assert decode_map(encode_map(found), "map") == found


@pytest.mark.parametrize("content", [b"", b"{", b'{"shards":{"a":{}}}', b'{"format":2}'])
def test_what_is_no_map_is_refused(content: bytes) -> None:
    with pytest.raises(ShardMapError):
        decode_map(content, "map")


def test_reader_sees_a_new_file_and_reads_no_other(tmp_path: Path) -> None:
    file = MapFile(tmp_path)
    assert file.current() is None
    first, second = ShardMap(shards={"a": owner(1)}), ShardMap(shards={"a": owner(2)})
    write_map(tmp_path, first)
    seen = file.current()
    assert seen == first
    assert file.current() is seen
    write_map(tmp_path, second)
    assert file.current() == second
    (tmp_path / FILE_NAME).unlink()
    assert file.current() == second
