"""What a server's process tree costs: processor time and memory, as the kernel counts them."""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_PERIOD_S = 0.5
BUSY_LOAD_A_PROCESSOR = 0.25
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Memory:
    """Of a whole tree, MiB. `rss` counts a page once for each process that maps it, `pss` once."""

    rss: float
    pss: float

    def highest(self, other: Memory) -> Memory:
        return Memory(max(self.rss, other.rss), max(self.pss, other.pss))


def machine() -> str:
    """What the figures were made on, in one line."""
    known = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "Model"))
    )
    model = next(iter(known.values()), platform.machine()).strip()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors ({model}), {memory_gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M')}"
    )


def busy() -> str | None:
    """A warning when the machine does other work already, which makes rates worthless."""
    load = os.getloadavg()[0]
    if load <= BUSY_LOAD_A_PROCESSOR * (os.cpu_count() or 1):
        return None
    return f"this machine is busy (load {load:.1f}): compare processor time, not rates"


def unfit_disk(folder: Path, free_gib_min: int) -> str | None:
    """Why data cannot be measured in this folder, if so: nothing is synced to memory."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    kinds = {os.stat(point).st_dev: kind for _, point, kind, *_ in mounts if os.path.isdir(point)}
    if kinds.get(folder.stat().st_dev) in MEMORY_FILE_SYSTEMS:
        return f"{folder} lies in memory, where nothing is ever synced"
    if shutil.disk_usage(folder).free < free_gib_min * 2**30:
        return f"less than {free_gib_min} GiB are free in {folder}"
    return None


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Processor time, user and system, of the tree's living processes."""
    ticks = 0
    for pid in tree(root):
        if fields := _stat(pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(root: int) -> Memory:
    """What is resident now."""
    rss = pss = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        amounts = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        rss += amounts["Rss:"]
        pss += amounts["Pss:"]
    return Memory(rss / 1024, pss / 1024)


def machine_ticks() -> tuple[int, int]:
    """Ticks of all processors, and those of them that the host gave to other guests."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[7]


class Watch:
    """Samples the memory of a tree while a case runs; `peak`, `cpu_s`, `stolen_percent` afterwards.

    What is stolen is the share of all processors' time, in percent, that the host took meanwhile.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = Memory(0, 0)
        self._cpu_before = 0.0
        self._ticks_before = (0, 0)
        self.cpu_s = 0.0
        self.stolen_percent = 0.0

    def __enter__(self) -> Watch:
        self._cpu_before = cpu_seconds(self._root)
        self._ticks_before = machine_ticks()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = cpu_seconds(self._root) - self._cpu_before
        ticks, stolen = (
            now - before for now, before in zip(machine_ticks(), self._ticks_before, strict=True)
        )
        self.stolen_percent = 100 * stolen / max(ticks, 1)
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        over = False
        while not over:
            over = self._over.wait(SAMPLE_PERIOD_S)
            self.peak = self.peak.highest(memory(self._root))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
