"""The guard ends a plugin, and what it started, together with the engine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import objectstore_infra.engine.guard as guard_module

GUARD = guard_module.__file__


def _start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, "/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _gone(pid: int) -> bool:
    for _ in range(200):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_when_the_engine_goes_the_plugin_and_its_children_go() -> None:
    guard = _start("sleep 300 & echo $!; echo $$; wait")
    assert guard.stdout is not None
    child, plugin = int(guard.stdout.readline()), int(guard.stdout.readline())
    guard.communicate(timeout=20)  # closes its input, as the end of the engine does
    assert _gone(plugin)
    assert _gone(child)


def test_a_plugin_that_ends_takes_its_children_along_and_its_code_is_told() -> None:
    guard = _start("sleep 300 & echo $!; exit 7")
    assert guard.stdout is not None
    child = int(guard.stdout.readline())
    assert guard.wait(20) == 7
    assert _gone(child)
