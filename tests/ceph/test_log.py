"""A shard's log on RADOS: appends, rolling, recovery, and who may write."""

from __future__ import annotations

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import COMMIT_BYTES_MAX, GIB, MIB
from objectstore_app.media.errors import (
    CorruptDataError,
    FencedError,
    MediaFailedError,
    MediaFullError,
)
from objectstore_app.media.rados.head import Head, decode_head, encode_head, head_name
from objectstore_app.media.rados.log import (
    RECORDS_AT,
    RadosLog,
    RadosLogReader,
    encode_guard,
    read_head,
)
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.rados.names import object_name
from objectstore_app.media.rados.objects import GuardError, Objects
from objectstore_app.media.segments import encode_header, log_segment
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.shard import Shard
from tests.engine.support import BUCKET, do, dump, open_shard, put

SHARD = ShardId(3)
FIRST = log_segment(SHARD, 1)
SMALL = COMMIT_BYTES_MAX + 1000


def log_of(objects: Objects, segment_bytes_max: int = SMALL) -> RadosLog:
    return RadosLog(objects, SHARD, segment_bytes_max=segment_bytes_max)


def successor_of(objects: Objects) -> RadosLog:
    """As recovery makes one: it reads to the end, then goes on there."""
    log = log_of(objects)
    piece = list(log.scan(0, 0))[-1]
    log.resume(piece.segment, piece.offset + len(piece.data), torn=False)
    return log


def content(objects: Objects) -> list[bytes]:
    return [bytes(piece.data) for piece in RadosLogReader(objects, SHARD).scan(0, 0)]


def test_append_announces_its_place_and_is_on_the_medium(objects: Objects) -> None:
    log = log_of(objects)
    announced = log.position()
    assert log.append([b"abc", memoryview(b"def")]) == announced == (FIRST, RECORDS_AT)
    assert log.position() == (FIRST, RECORDS_AT + 6)
    assert content(objects) == [b"abcdef"]


def test_log_rolls_before_a_commit_may_not_fit(objects: Objects) -> None:
    log = log_of(objects)
    assert log.append([bytes(990)])[0] == FIRST
    assert log.append([b"next"]) == (FIRST + 1, RECORDS_AT)
    assert [len(piece) for piece in content(objects)] == [990, 4]
    assert [piece.segment for piece in log.scan(FIRST + 1, RECORDS_AT)] == [FIRST + 1]


def test_successor_goes_on_behind_what_was_appended(objects: Objects) -> None:
    log_of(objects).append([b"first"])
    log = successor_of(objects)
    assert log.append([b"second"]) == (FIRST, RECORDS_AT + 5)
    assert content(objects) == [b"firstsecond"]
    assert log.epoch_after(1) == log.epoch == 2


def test_old_owner_can_not_append_and_knows_it(objects: Objects) -> None:
    old = log_of(objects)
    old.append([b"old"])
    new = successor_of(objects)
    with pytest.raises(FencedError):
        old.append([b"zombie"])
    with pytest.raises(MediaFailedError):
        old.append([b"zombie"])
    assert not old.confirm()
    assert new.confirm()
    new.append([b"new"])
    assert content(objects) == [b"oldnew"]


def test_old_owner_that_would_roll_is_fenced_by_the_head(objects: Objects) -> None:
    old = log_of(objects)
    old.append([bytes(990)])
    new = successor_of(objects)
    with pytest.raises(FencedError):
        old.position()
    # What it made before it noticed is nobody's, and no obstacle.
    assert objects.size(object_name(FIRST + 1)) == RECORDS_AT
    assert new.append([b"new"]) == (FIRST + 1, RECORDS_AT)
    assert content(objects) == [bytes(990), b"new"]
    with pytest.raises(MediaFailedError):
        old.append([b"zombie"])


def test_old_owner_that_rolls_after_its_successor_is_fenced(objects: Objects) -> None:
    old = log_of(objects)
    old.append([bytes(990)])
    new = successor_of(objects)
    new.append([b"new"])
    with pytest.raises(FencedError):
        old.position()
    assert content(objects) == [bytes(990), b"new"]


def test_of_two_successors_the_later_one_owns_the_log(objects: Objects) -> None:
    log_of(objects).append([b"first"])
    one = successor_of(objects)
    two = successor_of(objects)
    with pytest.raises(FencedError):
        one.append([b"lost"])
    two.append([b"second"])
    assert content(objects) == [b"firstsecond"]


def test_successor_that_slept_between_head_and_segment_is_fenced(objects: Objects) -> None:
    log_of(objects).append([b"first"])
    later = successor_of(objects)
    assert later.epoch == 2
    sleeper = object.__new__(RadosLog)
    sleeper._pool, sleeper._shard, sleeper._failed = objects, SHARD, ""
    sleeper._head = Head(shard=SHARD, epoch=2, last=1)
    sleeper._guard = encode_guard(2)
    with pytest.raises(FencedError):
        sleeper._open()


def test_release_is_told_and_ends_the_owner(objects: Objects) -> None:
    log = log_of(objects)
    log.release()
    found = read_head(objects, SHARD)
    assert found is not None
    assert found[0].released
    with pytest.raises(MediaFailedError):
        log.append([b"x"])
    successor_of(objects)
    again = read_head(objects, SHARD)
    assert again is not None
    assert not again[0].released


def test_segment_left_half_made_by_ourselves_is_used(objects: Objects) -> None:
    log = log_of(objects)
    log.append([bytes(990)])
    objects.create(object_name(FIRST + 1), encode_header(FIRST + 1, 7) + encode_guard(log.epoch))
    assert log.append([b"next"]) == (FIRST + 1, RECORDS_AT)
    assert next(iter(log.scan(FIRST + 1, RECORDS_AT))).salt == log.salt


def test_what_looks_like_a_torn_tail_is_refused(objects: Objects) -> None:
    log_of(objects).append([b"first"])
    log = log_of(objects)
    with pytest.raises(CorruptDataError):
        log.resume(FIRST, RECORDS_AT, torn=True)
    with pytest.raises(CorruptDataError):
        log.resume(FIRST, RECORDS_AT + 4, torn=False)


def test_missing_segment_is_refused(objects: Objects) -> None:
    log = log_of(objects)
    for _ in range(3):
        log.append([bytes(990)])
    objects.remove(object_name(FIRST + 1))
    with pytest.raises(CorruptDataError, match="missing"):
        list(log.scan(0, 0))
    assert [piece.segment for piece in log.scan(FIRST + 2, RECORDS_AT)] == [FIRST + 2]


def test_guard_that_differs_in_its_first_byte_is_a_guard_too(objects: Objects) -> None:
    """The binding has no class for that one, but a bare number."""
    objects.create("one", b"abc")
    for guard in (b"xbc", b"abx"):
        with pytest.raises(GuardError):
            objects.write_if("one", guard, 0, b"no", 3)
    assert objects.read("one", 0, 100) == b"abc"


def test_guarded_write_to_a_missing_object_makes_none(objects: Objects) -> None:
    with pytest.raises(GuardError):
        objects.write_if("none", b"abc", 0, b"no", 3)
    assert objects.size("none") is None
    assert objects.read("none", 0, 10) is None


def test_head_is_read_back_and_damage_refused() -> None:
    head = Head(shard=SHARD, epoch=9, owner="pod-1", last=4)
    whole = encode_head(head)
    assert decode_head(whole, "h") == head
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(CorruptDataError):
            decode_head(bytes(damaged), "h")
    with pytest.raises(CorruptDataError):
        decode_head(whole[:-1], "h")


def test_shard_recovers_from_its_log_on_rados(objects: Objects) -> None:
    shard = open_shard(log_of(objects), SHARD)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(20):
        do(shard, put(b"%03d" % (number % 7), bytes(number * 100)))
    before = dump(shard)
    again = open_shard(log_of(objects), SHARD)
    assert again.replayed == 21
    assert dump(again) == before
    with pytest.raises(FencedError):
        shard.commit([put(b"zombie")])
    do(again, put(b"new", b"x"))


def test_owner_that_recovers_behind_its_successor_is_fenced_not_corrupt(objects: Objects) -> None:
    slow = log_of(objects)
    shard = open_shard(log_of(objects), SHARD)
    do(shard, OpenBucket(bucket=BUCKET))
    with pytest.raises(FencedError):
        open_shard(slow, SHARD)
    do(shard, put(b"key", b"x"))


def test_standby_follows_the_log_and_takes_over(objects: Objects, tmp_path) -> None:
    from objectstore_app.metadata_service.shard import make_machine, replay
    from objectstore_app.metadata_service.view import DATA, open_view

    owner = open_shard(log_of(objects), SHARD)
    do(owner, OpenBucket(bucket=BUCKET))
    view = open_view(tmp_path / "view.sqlite", DATA)
    machine = make_machine(SHARD, view, 1)
    reader = RadosLogReader(objects, SHARD)
    for number in range(9):
        replay(reader, view, machine)
        do(owner, put(b"%03d" % number, bytes(900)))
    replay(reader, view, machine)
    view.close()
    do(owner, put(b"last", b"x"))
    successor = open_shard(log_of(objects), SHARD, view=tmp_path / "view.sqlite")
    assert isinstance(successor, Shard)
    assert successor.replayed == 1
    assert dump(successor) == dump(owner)


def test_damaged_head_stops_the_takeover(objects: Objects) -> None:
    log_of(objects).append([b"x"])
    objects.replace_if(head_name(SHARD), b"OSTOHED", 0, b"OSTOHED\n garbage")
    with pytest.raises(CorruptDataError):
        log_of(objects)


def test_log_of_a_full_pool_is_taken_over_and_goes_on_when_there_is_room() -> None:
    objects = MemoryObjects()
    log_of(objects).append([b"first"])
    objects.full = True
    log = successor_of(objects)
    with pytest.raises(MediaFullError):
        log.append([b"second"])
    log.release()
    later = successor_of(objects)
    objects.full = False
    assert later.append([b"second"]) == (FIRST, RECORDS_AT + 5)
    assert content(objects) == [b"firstsecond"]


@pytest.mark.parametrize(
    ("free", "told"),
    [
        (5 * GIB, 5 * GIB - 512 * MIB),
        (640 * MIB, 128 * MIB),
        (640 * MIB - 1, 128 * MIB - 1),
        (100 * MIB, 100 * MIB),
        (0, 0),
    ],
)
def test_margin_is_kept_from_writes_but_not_from_what_gives_room(free: int, told: int) -> None:
    objects = MemoryObjects()
    objects.free_bytes = lambda: free
    assert log_of(objects).room() == told


def test_room_that_came_back_is_seen_without_an_append():
    objects = MemoryObjects()
    objects.free_bytes = lambda: 0
    log = log_of(objects)
    assert log.room() == 0
    objects.free_bytes = lambda: 5 * GIB
    assert log.room() == 5 * GIB - 512 * MIB
