"""Bases kept on RADOS: a pod whose disk is empty comes up from one and the log behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.media.rados.files import RadosFiles
from objectstore_app.media.rados.log import RadosLog
from objectstore_app.media.rados.objects import Objects
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.bases import Base, make_base, newest_base, restore_view
from objectstore_app.metadata_service.kept_bases import fetch_base, send_base
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.view import open_reader
from tests.engine.support import BUCKET, do, dump, open_shard, put

SHARD = ShardId(3)


class Pod:
    """A folder that may vanish."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        folder.mkdir()
        self.folder, self._pool = folder, objects
        self.files = RadosFiles(objects, SHARD)
        self.fetched = fetch_base(self.files, folder, self.view)
        restore_view(folder, self.view)

    @property
    def view(self) -> Path:
        return self.folder / "view.sqlite"

    def open(self) -> Shard:
        return open_shard(RadosLog(self._pool, SHARD), SHARD, view=self.view)

    def base(self) -> Base:
        reader = open_reader(self.view)
        making = make_base(reader, self.folder, 1)
        try:
            while True:
                next(making)
        except StopIteration as made:
            base = made.value
        reader.close()
        assert isinstance(base, Base)
        return base

    def send(self, base: Base) -> bool:
        sending = send_base(self.files, self.folder, base)
        try:
            while True:
                next(sending)
        except StopIteration as sent:
            return bool(sent.value)


def written(pod: Pod, first: int, count: int) -> Shard:
    shard = pod.open()
    if first == 0:
        do(shard, OpenBucket(bucket=BUCKET))
    for number in range(first, first + count):
        do(shard, put(b"%03d" % number, bytes(1000)))
    return shard


def test_empty_pod_comes_up_from_the_kept_base_and_the_log_behind_it(
    objects: Objects, tmp_path: Path
) -> None:
    one = Pod(objects, tmp_path / "one")
    assert one.fetched is None
    shard = written(one, 0, 30)
    base = one.base()
    assert one.send(base)
    for number in range(5):
        do(shard, put(b"later %d" % number, b"x"))
    two = Pod(objects, tmp_path / "two")
    assert two.fetched == newest_base(two.folder)
    assert two.fetched is not None
    assert two.fetched.sequence == base.sequence == 31
    successor = two.open()
    assert successor.replayed == 5
    assert dump(successor) == dump(shard)


def test_pod_that_is_further_fetches_nothing(objects: Objects, tmp_path: Path) -> None:
    one = Pod(objects, tmp_path / "one")
    written(one, 0, 10)
    assert one.send(one.base())
    assert fetch_base(one.files, one.folder, one.view) is None


def test_only_the_latest_base_is_kept_and_an_older_one_is_refused(
    objects: Objects, tmp_path: Path
) -> None:
    one = Pod(objects, tmp_path / "one")
    written(one, 0, 10)
    older = one.base()
    assert one.send(older)
    written(one, 10, 10)
    newer = one.base()
    assert one.send(newer)
    kept = [name for name in objects.names() if "/base-" in name]
    assert kept == [f"shard-003/base-{newer.sequence:016x}-{newer.crc:08x}.00000"]
    assert not one.send(older)
    assert not one.send(newer)


def test_damaged_kept_base_is_refused(objects: Objects, tmp_path: Path) -> None:
    one = Pod(objects, tmp_path / "one")
    written(one, 0, 10)
    base = one.base()
    assert one.send(base)
    (piece,) = [name for name in objects.names() if "/base-" in name]
    objects.write_if(piece, b"SQLite", 0, b"?", 5000)
    with pytest.raises(CorruptDataError):
        Pod(objects, tmp_path / "two")
    objects.remove(piece)
    with pytest.raises(CorruptDataError):
        Pod(objects, tmp_path / "three")
