"""`objectstore atlas`: what it prints and its exit codes; and Atlas as the store starts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from objectstore_app.atlas import pace
from objectstore_app.atlas.passes import PASSES, due
from objectstore_app.atlas.state import PassRecord, State
from objectstore_app.cli import atlas as command
from objectstore_app.config.atlas import AtlasSettings
from objectstore_app.media.segments import segment_path
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.client import EmbeddedClient

from .atlas_store import Held, large, small
from .processes import WriterProcess

Atlas = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "data")


@pytest.fixture
def writer(store: Store) -> Iterator[WriterProcess]:
    process = WriterProcess(store)
    yield process
    if not process.ended:
        process.stop()


@pytest.fixture
def held(store: Store, writer: WriterProcess) -> Held:
    assert not writer.ended
    held = Held(store)

    async def load() -> None:
        await held.create()
        await held.put({b"large": large(1), b"small": small(1), b"doomed": large(2)})
        await held.delete([b"doomed"])

    asyncio.run(load())
    return held


@pytest.fixture
def atlas(store: Store, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    # The tests' own process keeps its priority.
    monkeypatch.setattr(command, "lowest_priority", lambda: None)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(
            command.atlas, [arguments[0], "--data", str(store.path), *arguments[1:]]
        )

    return run


def test_run_does_all_passes_and_status_shows_them(held: Held, atlas: Atlas) -> None:
    ran = atlas("run", "--atlas-grace", "0", "--atlas-rate", "0", "--json")
    assert ran.exit_code == 0, ran.output
    state = json.loads(ran.output)
    assert set(state["passes"]) == set(PASSES)
    assert state["counters"]["bytes_freed"] > 1_000_000
    assert state["scrubs_completed"] == 1
    shown = atlas("status")
    assert shown.exit_code == 0
    for name in PASSES:
        assert f"{name} " in shown.output
    asyncio.run(held.verify())


def test_damage_is_an_exit_code_of_its_own(held: Held, store: Store, atlas: Atlas) -> None:
    async def place() -> tuple[Path, int]:
        client = EmbeddedClient(store)
        assert held.bucket is not None
        found = await client.lookup(held.bucket, b"large")
        await client.close()
        assert found is not None
        extent = found.body.extents[0]
        return segment_path(store.path, extent.segment), extent.offset

    path, offset = asyncio.run(place())
    with open(path, "r+b") as file:
        file.seek(offset + 7)
        file.write(b"\xff\xfe")
    ran = atlas("run", "--pass", "scrub", "--atlas-rate", "0")
    assert ran.exit_code == 1
    assert "DAMAGED: shard-000 bucket 1 key b'large'" in ran.output
    assert atlas("status").exit_code == 1


def test_without_a_writer_nothing_is_done_and_said(
    held: Held, writer: WriterProcess, atlas: object
) -> None:
    assert held.objects
    assert writer.stop() == 0
    ran = atlas("run", "--pass", "gc", "--atlas-grace", "0", "--atlas-rate", "0")
    assert ran.exit_code == 2
    assert "no writer" in ran.output


def test_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    ran = CliRunner().invoke(command.atlas, ["status", "--data", str(tmp_path)])
    assert ran.exit_code == 2


def test_a_pass_is_due_when_its_time_has_come_or_it_was_stopped() -> None:
    settings = AtlasSettings()
    assert set(due(State(), settings, 10**12)) == set(PASSES)
    now_ms = 10**12
    state = State(passes={name: PassRecord(now_ms, 1.0) for name in PASSES}, scrub_ended_ms=now_ms)
    assert due(state, settings, now_ms + 1000) == ("gc", "rewrap")
    later = due(state, settings, now_ms + int(settings.compact_every_s * 1000))
    assert later == ("gc", "rewrap", "compact", "uploads")
    state.passes["orphans"] = PassRecord(now_ms, 1.0, "no room")
    assert "orphans" in due(state, settings, now_ms + 1000)
    state.scrub.stage = "versions"
    assert "scrub" in due(state, settings, now_ms + 1000)


def test_what_gives_room_is_due_sooner_when_room_is_short() -> None:
    now_ms = 10**12
    state = State(passes={name: PassRecord(now_ms, 1.0) for name in PASSES}, scrub_ended_ms=now_ms)
    assert due(state, AtlasSettings(), now_ms + 1000, hurried=True) == ("gc", "rewrap")
    later = due(state, AtlasSettings(), now_ms + 300_000, hurried=True)
    assert later == ("gc", "rewrap", "compact", "orphans")
    assert due(state, AtlasSettings(), now_ms + 300_000) == ("gc", "rewrap")


def test_pace_keeps_the_budget_and_pauses_for_the_writer() -> None:
    clock, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    async def work() -> None:
        own = pace.Pace(1000, clock=lambda: clock[0], sleep=sleep)
        for _ in range(30):
            await own.spend(100)
        assert clock[0] == pytest.approx(3.0, abs=0.2)
        slept.clear()
        await own.after_commit(0.05)
        assert slept[0] == pytest.approx(0.05 * pace.PAUSE_FACTOR)
        slept.clear()
        own.hurried = True
        await own.spend(100_000)
        await own.after_commit(0.05)
        assert not any(slept)

    asyncio.run(work())


def test_a_run_that_was_asked_to_end_says_that_it_did_not_finish(
    held: Held, atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held.objects
    monkeypatch.setattr(pace.Pace, "stopped", property(lambda _: True))
    ran = atlas("run")
    assert ran.exit_code == 2, ran.output
    assert "stopped: atlas: pass: the process was asked to end" in ran.output
