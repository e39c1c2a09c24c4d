"""The cells of the fault matrix: one workload under one fault, at many points, by seed.

A cell runs in a process of its own kind: the recorder has to be there before SQLite's checksum VFS
is. `Cells` keeps one such process for all cells of a test run.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import apsw

from objectstore_app.atlas.fsck import check
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.limits import LOG_SEGMENT_BYTES_MAX
from objectstore_app.media import local
from objectstore_app.media.errors import MediaFailedError
from objectstore_app.metadata_service import uploads

from .power import KILL, LOST, MODES, REORDERED, build
from .recorder import Fault, Op, Recorder, installed
from .story import ROLLING_BYTES, SMALL, Engine, State, Story, observe
from .workloads import WORKLOADS

AGAIN, ENOSPC, EIO, SHORT, EIO_READ = "again", "enospc", "eio", "short", "eio-read"
CREATION = "creation"
FAULTS = (*MODES, AGAIN, ENOSPC, EIO, SHORT, EIO_READ)

# Their log goes on to new segments; Atlas has some to empty.
ROLLING = ("rolling", "spare", "atlas")

# Rows hold all there is to read of these.
NOTHING_TO_READ = ("put_small", "delete_many", "buckets", "users")


class Cells:
    """Runs cells; its process ends with `close`."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=spawn)

    def run(self, workload: str, fault: str, seed: int, points: int) -> int:
        """How many states or failures were tried. Raises AssertionError with the seed."""
        return self._pool.submit(run_cell, workload, fault, seed, points).result()

    def close(self) -> None:
        self._pool.shutdown()


def run_cell(workload: str, fault: str, seed: int, points: int) -> int:
    rng = random.Random(f"{workload} {fault} {seed}")
    # Parts of an upload may be as small here as the workloads want them.
    uploads.PART_BYTES_MIN = 1
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        if fault in MODES:
            return _power_losses(workload, fault, rng, points, folder)
        if fault == AGAIN:
            return _losses_in_recovery(workload, rng, points, folder)
        if fault == CREATION:
            return _losses_after_creation(workload, rng, folder)
        if fault == EIO_READ:
            return _failing_reads(workload, rng, points, folder)
        return _failures(workload, fault, rng, points, folder)


# --- power losses ---


def _power_losses(workload: str, mode: str, rng: random.Random, points: int, folder: Path) -> int:
    ops, story = _recording(workload)
    for point in sorted(rng.sample(range(len(ops) + 1), min(points, len(ops) + 1))):
        seed = rng.randrange(1 << 30)
        with _naming(f"{workload}, {mode} after operation {point} of {len(ops)}, seed {seed}"):
            state = folder / f"{point}"
            build(ops[:point], mode, random.Random(seed), state)
            assert_recovers(state, story.allowed(point))
            shutil.rmtree(state)
    return points


def _losses_in_recovery(workload: str, rng: random.Random, points: int, folder: Path) -> int:
    """The power goes, and goes again while the store recovers."""
    ops, story = _recording(workload)
    for number in range(points):
        point, seed = rng.randrange(len(ops) + 1), rng.randrange(1 << 30)
        with _naming(f"{workload}, power lost after {point} and in recovery, seed {seed}"):
            own = random.Random(seed)
            mode, later = own.choice((KILL, REORDERED)), own.choice((LOST, REORDERED))
            first = folder / f"{number}"
            build(ops[:point], mode, own, first)
            before = _as_ops(first) if mode != KILL else list(ops[:point])
            recorder = _continue(first, before)
            end = own.randint(len(before), len(recorder.ops))
            second = folder / f"{number}-again"
            build(recorder.ops[:end], later, own, second)
            assert_recovers(second, story.allowed(point))
    return points


def _continue(folder: Path, before: list[Op]) -> Recorder:
    """Recover in the folder, recorded behind the operations that made it."""
    recorder = Recorder(folder)
    recorder.adopt(before)
    with installed(recorder):
        asyncio.run(_open_and_close(folder))
    return recorder


def _losses_after_creation(workload: str, rng: random.Random, folder: Path) -> int:
    """The process is killed at each operation of a store's creation; its successor goes on and
    acknowledges a write, then the power goes.
    """
    ops, story = _recording(workload)
    created = story.steps[0].begin
    for point in range(created + 1):
        with _naming(f"killed after operation {point} of {created}"):
            state = folder / f"{point}"
            build(ops[:point], KILL, rng, state)
            recorder = Recorder(state)
            recorder.adopt(ops[:point])
            with installed(recorder):
                held = asyncio.run(_open_and_write(state, recorder))
            lost = folder / f"{point}-lost"
            build(recorder.ops[: recorder.end], LOST, rng, lost)
            assert_recovers(lost, [held])
    return created


async def _open_and_write(folder: Path, recorder: Recorder) -> State:
    """What a store holds that has acknowledged a write; no operation behind that counts."""
    engine = Engine(folder)
    story = Story(engine, recorder)
    await story.create_bucket("acknowledged")
    recorder.end = len(recorder.ops)
    await engine.close()
    return story.state


async def _open_and_close(folder: Path) -> None:
    await Engine(folder).close()


def _as_ops(folder: Path) -> list[Op]:
    """Operations that make what lies in a folder, all of it durable: a machine that came up again
    has nothing that is not on its disk.
    """
    recorder = Recorder(folder)
    for path in sorted(folder.rglob("*")):
        name = recorder.inside(path)
        if not name:
            continue
        if path.is_dir():
            recorder.note(Op("folder", path=name))
        else:
            inode = recorder.inode(name, make=True)
            recorder.note(Op("write", inode, 0, path.read_bytes()))
            recorder.note(Op("sync", inode))
    folders = [recorder.inside(path) for path in folder.rglob("*") if path.is_dir()]
    for name in [".", *filter(None, folders)]:
        recorder.note(Op("sync folder", path=name))
    return recorder.ops


# --- failing operations ---


def _failures(workload: str, kind: str, rng: random.Random, points: int, folder: Path) -> int:
    """Run the workload with one operation failing, or several in a row, at each of many places."""
    total = _run(workload, folder / "whole", None).recorder.seen[kind]
    assert total > 0, f"{workload} has nothing that {kind} could hit"
    for at in sorted(rng.sample(range(1, total + 1), min(points, total))):
        count = 1 if kind == EIO else rng.choice((1, 1, 3))
        seed = rng.randrange(1 << 30)
        with _naming(f"{workload}, {kind} at {at} of {total} ({count} times), seed {seed}"):
            story = _run(workload, folder / f"{at}", Fault(kind, at, count))
            ops = story.recorder.ops[: story.recorder.end]
            assert story.recorder.hit
            assert kind != EIO or story.died, "it went on after a failed flush"
            assert kind != SHORT or (story.refused, story.died) == (0, "")
            allowed = story.allowed(len(ops)) if story.died else [story.state]
            for mode in (KILL, LOST):
                state = folder / f"{at}-{mode}"
                build(ops, mode, random.Random(seed), state)
                assert_recovers(state, allowed)
                shutil.rmtree(state)
            shutil.rmtree(folder / f"{at}")
    return points


def _failing_reads(workload: str, rng: random.Random, points: int, folder: Path) -> int:
    """A read that fails is an error; what is returned is right, and the next read works."""
    story = _run(workload, folder / "store", None)

    async def read(at: int) -> int:
        engine = Engine(folder / "store")
        recorder = Recorder(folder / "store")
        failed = 0
        try:
            with installed(recorder):
                recorder.fault = Fault(EIO_READ, at)
                try:
                    assert await observe(engine) == story.state
                except MediaFailedError:
                    failed += 1
            assert await observe(engine) == story.state
        finally:
            await engine.close()
        assert failed == int(recorder.hit)
        return failed

    failed = sum(asyncio.run(read(at)) for at in (1, *(rng.randint(1, 6) for _ in range(points))))
    assert failed, f"{workload} reads nothing"
    return failed


# --- one run, one recovery ---


@functools.cache
def _recording(workload: str) -> tuple[tuple[Op, ...], Story]:
    """A run without faults; what it recorded is the same for all its cells."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        story = _run(workload, Path(name) / "store", None)
    assert not story.died
    return tuple(story.recorder.ops), story


def _run(workload: str, folder: Path, fault: Fault | None) -> Story:
    folder.mkdir()
    recorder = Recorder(folder)
    recorder.fault = fault
    segment_bytes_max = ROLLING_BYTES if workload in ROLLING else LOG_SEGMENT_BYTES_MAX
    story = Story(None, recorder, segment_bytes_max)
    with installed(recorder), mock.patch.object(local, "LOG_SPARE_AFTER_BYTES", 0):
        asyncio.run(_tell(story, workload, folder))
    return story


async def _tell(story: Story, workload: str, folder: Path) -> None:
    recorder = story.recorder
    try:
        story.engine = Engine(
            folder, segment_bytes_max=story.segment_bytes_max, spare=workload == "spare"
        )
        await WORKLOADS[workload](story)
        # Closing flushes, too: what fails there must not undo what was acknowledged.
        await story.engine.close()
    except (ObjectStoreError, OSError, apsw.Error, SystemError) as error:
        # SystemError is how apsw's backup tells a second failure of a VFS written in Python.
        # A process would end here; this one lets go of the files, and nothing of that counts.
        recorder.fault = None
        recorder.end = len(recorder.ops)
        story.died = str(error) or repr(error)


def assert_recovers(folder: Path, allowed: list[State]) -> None:
    """The store starts, holds one of the allowed states, takes a write, and fsck is content."""

    async def look() -> tuple[State, State]:
        engine = Engine(folder)
        found = await observe(engine)
        story = Story(engine, Recorder(folder), state=found)
        await story.create_bucket("afterwards")
        await story.put("afterwards", b"k", SMALL)
        again = await observe(engine)
        await engine.close()
        return found, again

    found, again = asyncio.run(look())
    for state in (found, *allowed):
        state["users"].sort()
    assert found in allowed, f"the store holds\n{found}\nand not one of\n{allowed}"
    assert again["buckets"].pop("afterwards")["keys"] == {b"k": [((1,), True)]}
    assert again == found
    report = check(folder)
    assert report.clean, report.findings


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say in every failure what was being tried."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise
