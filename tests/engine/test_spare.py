"""The segment that is filled with zeros ahead of use."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import (
    COMMIT_BYTES_MAX,
    LOG_SPARE_AFTER_BYTES,
    LOG_SPARE_FREE_BYTES_MIN,
    MIB,
)
from objectstore_app.media import local, spare
from objectstore_app.media.local import LocalLog
from objectstore_app.media.spare import SPARE_NAME, SpareSegment

SHARD = ShardId(0)
SEGMENT_BYTES = COMMIT_BYTES_MAX + 3 * MIB


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "_PAUSE_S", 0.0)


def finished(one: SpareSegment) -> bool:
    """Wait for the thread; whether there is a spare then."""
    thread = one._thread
    assert thread is not None
    thread.join()
    return one.ready


def log_in_use(folder: Path) -> LocalLog:
    """A log that has begun to make a spare."""
    log = LocalLog(folder, SHARD, segment_bytes_max=SEGMENT_BYTES, spare=True)
    assert log.room() > LOG_SPARE_FREE_BYTES_MIN
    log.append([b"1" * LOG_SPARE_AFTER_BYTES])
    assert not (folder / SPARE_NAME).exists(), "a log that is hardly used takes no room"
    log.append([b"2"])
    return log


def test_a_log_rolls_from_a_growing_file_into_the_spare_and_overwrites_zeros(
    tmp_path: Path,
) -> None:
    log = log_in_use(tmp_path)
    assert finished(log._spare)
    assert (tmp_path / SPARE_NAME).stat().st_size == SEGMENT_BYTES
    assert log.append([b"3", b"4"]) == (2, 32)
    file = tmp_path / "log-00000002.seg"
    content = file.read_bytes()
    assert len(content) == SEGMENT_BYTES
    assert content[32:34] == b"34"
    assert not any(content[34:])
    assert log.append([b"5"]) == (2, 34), "it stays there"
    log.close()
    again = LocalLog(tmp_path, SHARD, segment_bytes_max=SEGMENT_BYTES)
    again.resume(2, 35, torn=False)
    assert again.append([b"6"]) == (2, 35)
    assert file.stat().st_size == SEGMENT_BYTES
    again.close()
    torn = LocalLog(tmp_path, SHARD, segment_bytes_max=SEGMENT_BYTES)
    torn.resume(2, 35, torn=True)
    assert file.stat().st_size == 35
    assert torn.append([b"7"]) == (2, 35)


def test_a_spare_that_gets_ready_does_not_change_the_place_announced(tmp_path: Path) -> None:
    log = log_in_use(tmp_path)
    announced = log.position()
    assert finished(log._spare)
    assert log.append([b"3"]) == announced
    assert log.position() == (2, 32)
    log.close()


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    log = log_in_use(tmp_path)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log-00000001.seg"]
    (tmp_path / SPARE_NAME).write_bytes(b"of a process that was killed")
    LocalLog(tmp_path, SHARD, segment_bytes_max=SEGMENT_BYTES).close()
    assert [path.name for path in tmp_path.iterdir()] == ["log-00000001.seg"]


def test_room_that_gets_short_takes_the_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_in_use(tmp_path)
    assert finished(log._spare)
    answers = iter((1, LOG_SPARE_FREE_BYTES_MIN - 1))
    monkeypatch.setattr(local, "free_bytes", lambda _: next(answers))
    assert log.room() > LOG_SPARE_FREE_BYTES_MIN, "it is looked for now and then"
    monkeypatch.setattr(local, "APPENDS_PER_LOOK", 0)
    assert log.room() == LOG_SPARE_FREE_BYTES_MIN - 1
    assert not (tmp_path / SPARE_NAME).exists()
    log.append([b"3"])
    assert log._spare._thread is None, "none is made before there is room in plenty"
    log.close()


def test_a_spare_that_fails_is_not_tried_again_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = SpareSegment(tmp_path, SEGMENT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        one.prepare()
        assert not finished(one)
    assert one.take() is None
    one.discard()
    one.prepare()
    assert one._thread is None
    assert list(tmp_path.iterdir()) == []
