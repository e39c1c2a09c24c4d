"""The supervisor with children of shell-like simplicity, run in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .toy import until

ROOT = Path(__file__).parents[3]

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.runtime import logging, supervisor as watching
from objectstore_app.runtime.errors import SupersededError
from objectstore_app.runtime.metrics import MetricsBoard
from objectstore_app.runtime.supervisor import ChildSpec, Supervisor

folder = Path(sys.argv[1])
logging.set_up("text", "test")
watching.HURRIED_EVERY_S = 0.05
watching.BACKOFF_S_MAX = 0.2

def note(name, text):
    with (folder / name).open("a") as file:
        file.write(text + "\\n")

def lives(context):
    name = f"child-{{context.slot}}"
    def end(_number, _frame):
        note("ended", name)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    note(name, str(os.getpid()))
    note("started", name)
    context.ready()
    while True:
        signal.pause()

def deaf(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(f"child-{{context.slot}}", str(os.getpid()))
    context.ready()
    while True:
        signal.pause()

def dies(context):
    context.ready()
    while not (folder / "ready").exists():
        time.sleep(0.01)
    raise ObjectStoreError("open shard", "shard-000", "the disk is gone")

def loses(context):
    told = "superseded" if context.superseded else "first"
    if not context.superseded or (folder / "free").exists():
        context.ready()
    note("loses", f"{{told}}:{{os.getpid()}}")
    while context.superseded:
        signal.pause()
    while not (folder / "ready").exists():
        time.sleep(0.01)
    raise SupersededError("write", "store", "another one has its logs")

def passes(context):
    note("passes", str(os.getpid()))
    raise ObjectStoreError("pass", "once", "this is its own affair")

def cannot_start(context):
    raise ObjectStoreError("open shard", "shard-000", "the folder is not ours")

supervisor = Supervisor(
    {specs},
    MetricsBoard(8),
    on_ready=lambda _: note("ready", "yes"),
    on_stop=lambda: note("stopping", "yes"),
)
note("parent", str(os.getpid()))
supervisor.run()
"""


@contextmanager
def running(folder: Path, specs: str) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(specs=textwrap.dedent(specs))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


TWO_STAGES = """[
    ChildSpec("front-0", "front-end", 1, lives, 5),
    ChildSpec("writer-0", "writer", 0, lives, 5),
]"""


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_stages_start_in_order_and_end_in_reverse(tmp_path: Path) -> None:
    with running(tmp_path, TWO_STAGES) as process:
        until(lambda: (tmp_path / "ready").exists())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert lines(tmp_path / "started") == ["child-2", "child-1"]
    assert lines(tmp_path / "ended") == ["child-1", "child-2"]
    assert lines(tmp_path / "stopping") == ["yes"]


def test_crashed_child_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, TWO_STAGES) as process:
        until(lambda: (tmp_path / "ready").exists())
        first = int(lines(tmp_path / "child-1")[0])
        os.kill(first, signal.SIGKILL)
        until(lambda: len(lines(tmp_path / "child-1")) == 2)
        assert alive(int(lines(tmp_path / "child-1")[1]))
        assert len(lines(tmp_path / "child-2")) == 1
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    restarts = [line for line in log.splitlines() if " child_restarts " in line]
    assert len(restarts) == 1
    assert "child=front-0" in restarts[0]
    assert "signal SIGKILL" in restarts[0]


def test_kill_of_the_parent_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, TWO_STAGES) as process:
        until(lambda: (tmp_path / "ready").exists())
        pids = [int(lines(tmp_path / f"child-{slot}")[0]) for slot in (1, 2)]
        assert all(alive(pid) for pid in pids)
        process.kill()
        until(lambda: not any(alive(pid) for pid in pids))


def test_child_that_cannot_live_ends_the_store_with_its_reason(tmp_path: Path) -> None:
    specs = """[
        ChildSpec("front-0", "front-end", 1, lives, 5),
        ChildSpec("writer-0", "writer", 0, dies, 5),
    ]"""
    with running(tmp_path, specs) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    last = log.strip().splitlines()[-1]
    assert "ChildFailedError: keep running: writer-0" in last
    assert "the disk is gone" in last
    assert not alive(int(lines(tmp_path / "child-1")[0]))


def test_child_that_cannot_start_ends_the_store_at_once(tmp_path: Path) -> None:
    specs = """[
        ChildSpec("front-0", "front-end", 1, lives, 5),
        ChildSpec("writer-0", "writer", 0, cannot_start, 5),
    ]"""
    started = time.monotonic()
    with running(tmp_path, specs) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "start: writer-0: open shard: shard-000: the folder is not ours" in log
    assert not (tmp_path / "ready").exists()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("impatient", [True, False])
def test_deaf_child_is_killed_after_its_time_or_by_a_second_signal(
    tmp_path: Path, impatient: bool
) -> None:
    seconds = 60 if impatient else 0.5
    with running(tmp_path, f'[ChildSpec("deaf-0", "deaf", 0, deaf, {seconds})]') as process:
        until(lambda: (tmp_path / "ready").exists())
        process.send_signal(signal.SIGTERM)
        until(lambda: (tmp_path / "stopping").exists())
        if impatient:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not alive(int(lines(tmp_path / "child-1")[0]))


def test_periodic_child_is_started_again_and_again_and_its_failure_ends_nothing(
    tmp_path: Path,
) -> None:
    specs = """[
        ChildSpec("front-0", "front-end", 1, lives, 5),
        ChildSpec("atlas", "atlas", 1, passes, 5, 0.05),
    ]"""
    with running(tmp_path, specs) as process:
        until(lambda: len(lines(tmp_path / "passes")) > 8)
        assert lines(tmp_path / "ready") == ["yes"]
        assert len(lines(tmp_path / "child-1")) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_periodic_child_that_is_hurried_does_not_wait_for_its_time(tmp_path: Path) -> None:
    specs = """[
        ChildSpec("front-0", "front-end", 1, lives, 5),
        ChildSpec(
            "atlas", "atlas", 1, passes, 5, 3600.0,
            hurried=lambda: len((folder / "passes").read_text().split()) < 3
            if (folder / "passes").exists() else (folder / "short").exists(),
        ),
    ]"""
    with running(tmp_path, specs) as process:
        until(lambda: (tmp_path / "ready").exists())
        assert lines(tmp_path / "passes") == []
        (tmp_path / "short").touch()
        until(lambda: len(lines(tmp_path / "passes")) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(lines(tmp_path / "passes")) == 3


def test_periodic_child_is_ended_with_the_store(tmp_path: Path) -> None:
    specs = """[
        ChildSpec("writer-0", "writer", 0, lives, 5),
        ChildSpec("atlas", "atlas", 1, lives, 5, 0.05),
    ]"""
    with running(tmp_path, specs) as process:
        until(lambda: (tmp_path / "child-2").exists())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert lines(tmp_path / "ended") == ["child-2", "child-1"]


def test_child_that_lost_its_place_is_told_to_wait_until_it_served_again(tmp_path: Path) -> None:
    specs = """[
        ChildSpec("front-0", "front-end", 1, lives, 5),
        ChildSpec("writer-0", "writer", 0, loses, 5),
    ]"""

    def last(number: int) -> int:
        until(lambda: len(lines(tmp_path / "loses")) == number)
        return int(lines(tmp_path / "loses")[-1].partition(":")[2])

    with running(tmp_path, specs) as process:
        os.kill(last(2), signal.SIGKILL)
        waits = last(3)
        (tmp_path / "free").touch()
        os.kill(waits, signal.SIGKILL)
        os.kill(last(4), signal.SIGKILL)  # this one has served again
        until(lambda: len(lines(tmp_path / "loses")) >= 5)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    told = [line.partition(":")[0] for line in lines(tmp_path / "loses")]
    assert told[:5] == ["first", "superseded", "superseded", "superseded", "first"]
    assert len(lines(tmp_path / "child-1")) == 1
    [reason] = [line for line in log.splitlines() if " child_superseded " in line][:1]
    assert "another one has its logs" in reason
