"""`objectstore serve` in a process group of its own, over a folder that outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
DEATH_TIMEOUT_S = 10.0
ACCESS_KEY = "FAULTSROOT"
SECRET_KEY = secrets.token_hex(20)

_TRANSFORMS = ("--encryption", "AES256", "--compression", "zstd")
_PORT = re.compile(r"S3 endpoint +http://127\.0\.0\.1:(\d+)")
_STARTED = re.compile(r"child_started\b.* child=(\S+) child_pid=(\d+)")


@dataclass(frozen=True)
class Checked:
    """What `objectstore fsck` said."""

    exit_code: int
    findings: list[dict[str, str]]

    @property
    def errors(self) -> list[str]:
        return [f"{each['where']}: {each['what']}" for each in self.findings
                if each["severity"] == "error"]  # fmt: skip


class Store:
    """One data folder and the store that runs over it, when one does; not for threads.

    With `transforms` every other start encrypts and compresses what it takes in.
    """

    def __init__(self, folder: Path, logs: Path | None = None, *, transforms: bool = False) -> None:
        self._transforms = transforms
        self.data = folder / "data"
        self._logs = logs or folder
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """The supervisor's, which leads the group."""
        assert self._process is not None, "the store does not run"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._logs / f"serve-{self._starts}.log"

    def launch(self) -> None:
        """Start it; it is not ready yet."""
        assert self._process is None, "the store runs"
        self._starts += 1
        options = _TRANSFORMS if self._transforms and self._starts % 2 else ()
        kept = {name: value for name, value in os.environ.items() if "OBJECTSTORE" not in name}
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "objectstore_app", "serve", "--workers", "2"),
                    *("--data", str(self.data), "--listen", "127.0.0.1:0"),
                    *options,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **kept,
                    "OBJECTSTORE_ROOT_ACCESS_KEY": ACCESS_KEY,
                    "OBJECTSTORE_ROOT_SECRET_KEY": SECRET_KEY,
                },
            )

    def start(self) -> None:
        """Start it and return when it says that it is ready."""
        self.launch()
        process = self._process
        assert process is not None
        until(
            lambda: process.poll() is not None or _PORT.search(self.text()) is not None,
            START_TIMEOUT_S,
            "the store says that it is ready",
        )
        found = _PORT.search(self.text())
        assert found, f"the store did not start:\n{self.text()[-4000:]}"
        self.port = int(found[1])

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> dict[str, int]:
        """The newest process id of each child by name."""
        return {name: int(pid) for name, pid in _STARTED.findall(self.text())}

    def kill_group(self) -> None:
        """kill -9 of every process at once."""
        os.killpg(self.pid, signal.SIGKILL)
        self._wait_for_end()

    def kill_supervisor(self) -> None:
        """kill -9 of the supervisor alone; its children must die with it."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait_for_end()

    def kill_child(self, name: str) -> None:
        """kill -9 of one child; returns when the supervisor has started another."""
        pid = self.children()[name]
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.children()[name] != pid, START_TIMEOUT_S, f"{name} is started again")

    def stop(self) -> None:
        """SIGTERM; it must end in good order."""
        process = self._process
        assert process is not None, "the store does not run"
        process.terminate()
        assert process.wait(STOP_TIMEOUT_S) == 0, self.text()[-4000:]
        self._wait_for_end()

    def clean_up(self) -> None:
        """Leave no process behind, whatever happened."""
        if self._process is not None:
            # The group outlives its leader as long as one of its members does.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._wait_for_end()

    def fsck(self) -> Checked:
        """Run `objectstore fsck` over the folder."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "objectstore_app", "fsck", "--json"),
                "--data",
                str(self.data),
            ],
            capture_output=True,
            timeout=STOP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        return Checked(done.returncode, json.loads(done.stdout)["findings"])

    def assert_sound(self) -> None:
        checked = self.fsck()
        assert checked.exit_code == 0, checked.errors

    def _wait_for_end(self) -> None:
        process = self._process
        assert process is not None
        process.wait(DEATH_TIMEOUT_S)
        pids = [int(pid) for _, pid in _STARTED.findall(self.text())]
        until(lambda: not any(map(alive, pids)), DEATH_TIMEOUT_S, "every child is dead")
        self._process = None


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for a condition. Raises AssertionError when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.02)
