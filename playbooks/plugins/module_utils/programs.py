"""Whether what runs is what lies on the disk: a process keeps the program that it started with.

Packages and roles replace programs and libraries by renaming; a process goes on with the old file,
which the kernel then shows as deleted. Standard library only, since it runs with the node's own
Python.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
FOLDERS = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/opt/")
GONE = " (deleted)"
PATH_FIELD = 5


def main_process(unit: str) -> int:
    """The main process of a systemd unit; 0 where it does not run."""
    return shown(unit, "MainPID")


def shown(unit: str, name: str) -> int:
    """A number that systemd knows of a unit."""
    done = subprocess.run(
        ["systemctl", "show", f"--property={name}", "--value", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout.strip() or 0)


def started_before(unit: str, files: list[Path]) -> bool:
    """Whether a unit runs since before one of the files, or links, was written."""
    if not main_process(unit):
        return False
    started = shown(unit, "ExecMainStartTimestampMonotonic") / 1_000_000
    at = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + started
    return any(path.lstat().st_mtime > at for path in files if path.exists())


def replaced(pid: int, proc: Path = PROC) -> list[str]:
    """The programs and libraries that a process runs and that were replaced since it started."""
    try:
        lines = (proc / str(pid) / "maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = set()
    for line in lines:
        fields = line.split(maxsplit=PATH_FIELD)
        executed = len(fields) > PATH_FIELD and "x" in fields[1]
        if executed and fields[-1].startswith(FOLDERS) and fields[-1].endswith(GONE):
            found.add(fields[-1].removesuffix(GONE))
    return sorted(found)


def runs_replaced(unit: str) -> bool:
    """Whether a unit runs, and what it runs was replaced."""
    pid = main_process(unit)
    return pid != 0 and bool(replaced(pid))
