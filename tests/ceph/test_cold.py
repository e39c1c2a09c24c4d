"""Segments that another Atlas moves or removes at the same time. Objects in memory."""

from __future__ import annotations

from typing import cast

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.media.rados.cold import encode_cold
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.rados.names import cold_name, object_name
from objectstore_app.media.rados.pool import Cluster, Pool
from objectstore_app.media.rados.segments import RadosCold
from objectstore_app.media.segments import chunk_segment, encode_header

NUMBER = chunk_segment(7, 7)
CONTENT = encode_header(NUMBER) + bytes(100_000)
KEPT = [(64, 50_000)]


class Shared(MemoryObjects):
    """`then` happens right after somebody looked for an object's size."""

    def __init__(self) -> None:
        super().__init__()
        self.then = lambda: None

    def size(self, name: str) -> int | None:
        found = super().size(name)
        self.then()
        return found


def test_segment_that_another_one_moved_meanwhile_is_no_damage() -> None:
    written, cold = Shared(), Shared()
    ours, other = (RadosCold(*pools(written, cold)) for _ in range(2))
    written.put(object_name(NUMBER), CONTENT)

    def move_it() -> None:
        written.then = lambda: None
        assert other.move(NUMBER, KEPT)

    written.then = move_it
    before = encode_cold(NUMBER, KEPT, memoryview(CONTENT))
    assert ours.move(NUMBER, [(64, 100_000)]) == 0
    assert cold.objects == {cold_name(NUMBER): before}


def test_cold_segment_that_another_one_removed_meanwhile_stays_away() -> None:
    written, cold = Shared(), Shared()
    ours = RadosCold(*pools(written, cold))
    cold.put(cold_name(NUMBER), encode_cold(NUMBER, KEPT, memoryview(CONTENT)))
    cold.then = cold.objects.clear
    assert ours.shrink(NUMBER, [(64, 1000)]) == 0
    assert cold.objects == {}


def pools(written: Shared, cold: Shared) -> tuple[Cluster, Pool, Pool]:
    return cast("Cluster", None), cast("Pool", written), cast("Pool", cold)
