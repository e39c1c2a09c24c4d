"""The mirror of a shard's log beside its view: what is found there, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import COMMIT_BYTES_MAX, RADOS_SEGMENT_BYTES_MAX
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import MediaFullError
from objectstore_app.media.rados import mirror as mirror_module
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.rados.mirror import LogMirror, MirrorReader, mirror_path
from objectstore_app.media.segments import checksum, log_segment, shard_folder

SHARD = ShardId(0)
FIRST = log_segment(SHARD, 1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / shard_folder(SHARD)).mkdir()
    return tmp_path


@pytest.fixture
def reader(data: Path):
    reader = MirrorReader(data)
    yield reader
    reader.close()


def extent_of(place: tuple[int, int], body: bytes) -> Extent:
    return Extent(*place, len(body), checksum(body))


def appended(log: RadosLog, body: bytes) -> Extent:
    return extent_of(log.append([body]), body)


def files(data: Path) -> list[str]:
    return sorted(path.name for path in (data / shard_folder(SHARD)).iterdir())


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(mirror_module, "free_bytes", lambda _: size)


def test_what_was_appended_is_read_without_the_pool(data: Path, reader: MirrorReader) -> None:
    objects = MemoryObjects()
    log = RadosLog(objects, SHARD, mirror=LogMirror(data, SHARD))
    places = [appended(log, body) for body in (b"first", b"second", bytes(5000))]
    objects.objects.clear()
    assert [reader.read(place) for place in places] == [b"first", b"second", bytes(5000)]


def test_what_the_pool_refused_is_not_mirrored(data: Path) -> None:
    objects = MemoryObjects()
    log = RadosLog(objects, SHARD, mirror=LogMirror(data, SHARD))
    log.append([b"first"])
    before = mirror_path(data, FIRST).read_bytes()
    objects.full = True
    with pytest.raises(MediaFullError):
        log.append([b"refused"])
    assert mirror_path(data, FIRST).read_bytes() == before


def test_a_standby_mirrors_what_it_reads_and_goes_on_as_owner(
    data: Path, reader: MirrorReader
) -> None:
    objects = MemoryObjects()
    before = RadosLog(objects, SHARD)
    old = appended(before, b"of the owner before")
    mirror = LogMirror(data, SHARD)
    assert reader.read(old) is None
    source = RadosLogReader(objects, SHARD, mirror)
    (piece,) = source.scan(0, 0)
    assert reader.read(old) == b"of the owner before"
    late = appended(before, b"a moment later")
    log = RadosLog(objects, SHARD, mirror=mirror)
    (rest,) = log.scan(piece.segment, piece.offset + len(piece.data))
    log.resume(rest.segment, rest.offset + len(rest.data), torn=False)
    new = appended(log, b"ours")
    assert [reader.read(one) for one in (old, late, new)] == [
        b"of the owner before", b"a moment later", b"ours",
    ]  # fmt: skip


def test_what_does_not_match_is_not_told(data: Path, reader: MirrorReader) -> None:
    """A hole, bytes that a power failure left, an end that is missing."""
    mirror = LogMirror(data, SHARD)
    mirror.put(FIRST, 5000, b"behind a hole")
    assert reader.read(extent_of((FIRST, 100), b"never written here")) is None
    assert reader.read(extent_of((FIRST, 5000), b"behind a hole")) == b"behind a hole"
    assert reader.read(extent_of((FIRST, 5001), b"ehind a hole and more")) is None
    with mirror_path(data, FIRST).open("r+b") as file:
        os.pwrite(file.fileno(), b"B", 5000)
    assert reader.read(extent_of((FIRST, 5000), b"behind a hole")) is None
    assert reader.read(extent_of((FIRST + 1, 64), b"x")) is None


def test_the_oldest_segments_go_and_give_their_room_back(data: Path, reader: MirrorReader) -> None:
    mirror = LogMirror(data, SHARD, bytes_max=2 * RADOS_SEGMENT_BYTES_MAX)
    first = extent_of((FIRST, 64), b"body 0")
    mirror.put(FIRST, 64, b"body 0")
    assert reader.read(first) == b"body 0"
    with mirror_path(data, FIRST).open("rb") as held:
        for number in (1, 2):
            mirror.put(FIRST + number, 64, b"body %d" % number)
        assert os.fstat(held.fileno()).st_size == 0
    assert files(data) == ["mirror-00000002.seg", "mirror-00000003.seg"]
    assert reader.read(first) is None
    assert reader.read(extent_of((FIRST + 2, 64), b"body 2")) == b"body 2"


def test_mirrors_go_before_room_for_the_view_gets_short(
    data: Path, reader: MirrorReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RadosLog(
        MemoryObjects(), SHARD, mirror=LogMirror(data, SHARD),
        segment_bytes_max=COMMIT_BYTES_MAX + 1000,
    )  # fmt: skip
    held = appended(log, bytes(900))
    free(monkeypatch, mirror_module.MIRROR_FREE_BYTES_MIN - 1)
    while files(data):  # it is looked for now and then
        log.room()
        log.append([b"x"])
        assert log.position()[0] == FIRST or not files(data)
    assert reader.read(held) is None
    free(monkeypatch, 2 * mirror_module.MIRROR_FREE_BYTES_MIN)
    while log.append([bytes(900)])[0] == FIRST:
        pass
    after = appended(log, b"of the next segment")
    assert reader.read(after) == b"of the next segment"


def test_a_disk_that_takes_nothing_does_not_keep_the_log_from_going_on(
    data: Path, reader: MirrorReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = MemoryObjects()
    log = RadosLog(objects, SHARD, mirror=LogMirror(data, SHARD))
    log.append([b"mirrored"])

    def fail(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        place = appended(log, b"only in the pool")
    assert files(data) == []
    assert reader.read(place) is None
    assert objects.read("shard-000/log-00000001.seg", place.offset, place.length) == (
        b"only in the pool"
    )
