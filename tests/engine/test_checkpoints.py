"""The view's write-ahead log is moved into the database beside the commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.media.local import LocalLog
from objectstore_app.metadata_service import checkpoints
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.checkpoints import Checkpointer
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.view import (
    DATA,
    checkpoint,
    open_checkpointer,
    open_reader,
    open_view,
)
from tests.engine.support import BUCKET, do, dump, open_shard, put

COMMITS_MAX = 2000
WAITS_MAX = 20_000


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_PAGES", 60)
    monkeypatch.setattr(checkpoints, "FINISH_PAGES", 30)


class Hosted:
    """A shard on disk with its checkpointer, and the failures that this one told."""

    def __init__(self, folder: Path) -> None:
        self.failures: list[str] = []
        self.view_path = folder / "view.sqlite"
        self.shard: Shard = open_shard(
            LocalLog(folder, ShardId(0)), ShardId(0), view=self.view_path
        )
        self.checkpointer = Checkpointer(self.shard.view, self.view_path, self.failures.append)
        self.count = 0
        do(self.shard, OpenBucket(bucket=BUCKET))

    async def commit(self) -> int:
        """One more object; how many pages the write-ahead log has then."""
        self.count += 1
        do(self.shard, put(b"k%06d" % self.count, bytes(300)))
        await asyncio.sleep(0)
        return self.checkpointer._pages

    async def commit_until_begun_anew(self) -> int:
        """The most pages that there were before."""
        most = await self.commit()
        for _ in range(COMMITS_MAX):
            pages = await self.commit()
            if pages < most:
                return most
            most = pages
        raise AssertionError("the write-ahead log never began anew")

    async def close(self) -> None:
        await self.checkpointer.close()
        self.shard.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(WAITS_MAX):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to that")


def spoil(path: Path) -> None:
    """Make every byte of a file another one."""
    content = path.read_bytes()
    assert content
    path.write_bytes(bytes(byte ^ 0xFF for byte in content))


def test_the_write_ahead_log_begins_anew_while_commits_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        hosted = Hosted(tmp_path)
        for _ in range(3):
            await hosted.commit_until_begun_anew()
        rows = dump(hosted.shard)
        await hosted.close()
        again = Hosted(tmp_path)
        assert dump(again.shard) == rows
        await again.close()
        assert hosted.failures == again.failures == []

    asyncio.run(run())


def test_no_commit_moves_pages_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        hosted = Hosted(tmp_path)
        monkeypatch.setattr(hosted.checkpointer, "_start", lambda: None)
        size = hosted.view_path.stat().st_size
        while await hosted.commit() < 1500:
            pass
        assert hosted.view_path.stat().st_size == size
        await hosted.close()
        assert hosted.view_path.stat().st_size > size, "closing does"

    asyncio.run(run())


def test_a_reader_that_stays_in_an_old_state_delays_it_and_keeps_nothing_from_working(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        hosted = Hosted(tmp_path)
        await hosted.commit_until_begun_anew()
        reader = open_reader(hosted.view_path)
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM versions").fetchall()
        most = 0
        for _ in range(300):
            most = max(most, await hosted.commit())
        assert most > 300
        assert reader.execute("SELECT count(*) FROM versions").fetchall() == seen
        reader.execute("COMMIT")
        await hosted.commit_until_begun_anew()
        reader.close()
        await hosted.close()
        assert hosted.failures == []

    asyncio.run(run())


def test_what_is_old_is_read_from_the_database_whatever_the_write_ahead_log_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the database have checksums; damage in the log before them is seen by nobody."""
    monkeypatch.setattr(checkpoints, "UNMOVED_S_MAX", 0.01)

    async def run() -> None:
        hosted = Hosted(tmp_path)
        for _ in range(3):
            await hosted.commit()
            pages = await hosted.commit()
            await until(lambda pages=pages: hosted.checkpointer._moved >= pages)
            spoil(Path(f"{hosted.view_path}-wal"))
            reader = open_reader(hosted.view_path)
            assert reader.execute("SELECT count(*) FROM versions").fetchall() == [(hosted.count,)]
            reader.close()
        await hosted.close()
        assert hosted.failures == []

    asyncio.run(run())


def test_what_the_writer_before_left_is_moved_without_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "UNMOVED_S_MAX", 0.01)
    path = tmp_path / "view.sqlite"

    async def run() -> None:
        shard = open_shard(LocalLog(tmp_path, ShardId(0)), ShardId(0), view=path)
        do(shard, OpenBucket(bucket=BUCKET))
        do(shard, put(b"k", bytes(300)))
        before = path.stat().st_mtime_ns
        checkpointer = Checkpointer(shard.view, path, pytest.fail)
        await until(lambda: path.stat().st_mtime_ns > before)
        await checkpointer.close()
        shard.close()

    asyncio.run(run())


def test_view_of_an_earlier_release_gets_checksums_whoever_moves_its_pages(tmp_path: Path) -> None:
    """Its first page, which says that there is room for them, changes in the write-ahead log."""
    path = tmp_path / "view.sqlite"
    old = apsw.Connection(str(path), vfs="unix")
    old.execute(f"PRAGMA page_size=4096; PRAGMA journal_mode=WAL; {DATA.sql}").fetchall()
    old.execute(f"PRAGMA user_version={DATA.version}")
    old.close()
    view = open_view(path, DATA)
    beside = open_checkpointer(path)
    for move in (lambda: checkpoint(beside), lambda: checkpoint(view)):
        for number in range(200):
            view.execute("INSERT OR REPLACE INTO nulls VALUES (1, ?, 1)", (b"%0200d" % number,))
        assert move()
    reader = open_reader(path)
    assert reader.execute("PRAGMA checksum_verification").fetchall() == [("1",)]
    assert reader.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    for connection in (reader, beside, view):
        connection.close()


def test_a_checkpoint_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Path) -> apsw.Connection:
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(checkpoints, "open_checkpointer", failing)

    async def run() -> None:
        hosted = Hosted(tmp_path)
        for _ in range(COMMITS_MAX):
            await hosted.commit()
            if hosted.failures:
                break
        assert "disk I/O error" in hosted.failures[0]
        await hosted.close()

    asyncio.run(run())


def test_a_checkpoint_without_room_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: apsw.Connection) -> int:
        raise apsw.FullError("database or disk is full")

    async def run() -> None:
        hosted = Hosted(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "checkpoint", full)
            while await hosted.commit() < 500:
                pass
        await hosted.commit_until_begun_anew()
        await hosted.close()
        assert hosted.failures == []

    asyncio.run(run())
