"""What a process and all below it hold in memory, now and at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import tree

SAMPLE_PERIOD_S = 0.05


@dataclass
class Peak:
    resident: int = 0


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().split()
        return int(fields[fields.index("VmRSS:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


def resident_tree(pid: int) -> int:
    """Resident bytes of a process and all below it; a page counts for each that maps it."""
    return sum(map(resident, tree(pid)))


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """The most that they held meanwhile."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_PERIOD_S):
            peak.resident = max(peak.resident, resident_tree(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
