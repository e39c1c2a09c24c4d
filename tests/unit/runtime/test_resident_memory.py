"""What all processes of a store hold together: at rest, and with requests and Atlas at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .test_serve import Store, serving
from .toy import until

MIB = 2**20
REST_BYTES_MAX = 140 * MIB
BURST_BYTES_MAX = 200 * MIB
SUPERVISOR_BYTES_MAX = 20 * MIB
KEYS = 300
PAGES = 40
BODY = bytes(range(256)) * 16


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().split()
        return int(fields[fields.index("VmRSS:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


def processes(store: Store) -> list[int]:
    children = [pid for ids in store.children().values() for pid in ids]
    return [store.process.pid, *children]


def total(store: Store) -> int:
    return sum(map(resident, processes(store)))


def settled(store: Store) -> bool:
    """Whether the start is over: the supervisor has let go of what it imported for its children."""
    return resident(store.process.pid) < SUPERVISOR_BYTES_MAX and "data folder" in store.text()


@dataclass
class Peak:
    resident: int = 0


@contextmanager
def watched(store: Store) -> Iterator[Peak]:
    """The most that the store held meanwhile."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak.resident = max(peak.resident, total(store))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def test_a_store_at_rest_is_small(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--atlas-interval", "0") as store:
        until(lambda: settled(store), 60)
        assert total(store) < REST_BYTES_MAX


def test_a_store_at_work_is_within_its_bound(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--atlas-interval", "1") as store:
        until(lambda: settled(store), 60)
        assert store.put("/burst") == 200
        with watched(store) as peak:
            for number in range(KEYS):
                assert store.put(f"/burst/{number:06d}", BODY) == 200
            for number in range(KEYS):
                assert store.send("GET", f"/burst/{number:06d}").body == BODY
            for _ in range(PAGES):
                assert store.send("GET", "/burst").body.count(b"<Key>") == KEYS
            until(lambda: len(store.children().get("atlas", [])) > 1, 60)
        assert peak.resident < BURST_BYTES_MAX
