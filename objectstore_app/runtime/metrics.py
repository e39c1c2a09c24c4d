"""Counters of all processes, in Prometheus' text format. Every metric name is in this file.

Theory of operation. Each process counts in plain Python objects of its own, which costs a request
well under a microsecond. Once a second it writes a snapshot into its *slot* of a memory map that
the supervisor made before it forked; whoever answers `/_metrics` adds up all slots. A restarted
process begins with the snapshot that its predecessor left, so counters never go back.

A slot is: sequence (8 bytes, odd while being written), length (4 bytes), then JSON. A reader
retries when the sequence was odd or changed while it read.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SLOT_BYTES = 64 * 1024
_HEADER = struct.Struct("<QI")
_READ_ATTEMPTS = 100

LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BUCKETS = len(LATENCY_BOUNDS_S) + 1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class OperationCounter:
    """Requests of one operation: by status, and a latency histogram (counts per bucket, sum)."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * _BUCKETS
        self.seconds = 0.0


@dataclass(slots=True)
class Counters:
    """What one process counts. Only the process itself writes to it."""

    role: str
    operations: dict[str, OperationCounter] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    connections: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    application_faults: int = 0
    restarts: dict[str, int] = field(default_factory=dict)

    def count(self, operation: str, status: int, seconds: float) -> None:
        """Count one finished request."""
        counter = self.operations.get(operation)
        if counter is None:
            counter = self.operations[operation] = OperationCounter()
        statuses = counter.statuses
        statuses[status] = statuses.get(status, 0) + 1
        counter.seconds += seconds
        counter.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasFacts:
    """What Atlas did to a store: `counters` maps what it counts to how often, `passes` a pass to
    when it ended (seconds since 1970).
    """

    damage: int
    scrubs: int
    counters: Mapping[str, int]
    passes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a store holds, and what Atlas did to it where that is known."""

    buckets: int
    objects: int
    versions: int
    size_bytes: int
    uploads: int
    atlas: AtlasFacts | None = None


class MetricsBoard:
    """The shared memory with one slot for each process; made before forking."""

    def __init__(self, slots: int, descriptor: int | None = None) -> None:
        """`descriptor`: that of a board which this process had made before an exec."""
        if descriptor is None:
            descriptor = os.memfd_create("metrics")
            os.ftruncate(descriptor, slots * SLOT_BYTES)
        self.descriptor = descriptor
        self._slots = slots
        self._map = mmap.mmap(descriptor, slots * SLOT_BYTES)

    def load(self, slot: int, role: str) -> Counters:
        """The counters that the slot's former process left, with nothing connected."""
        snapshot = self._read(slot)
        if snapshot is None:
            return Counters(role)
        counters = _decode(snapshot)
        counters.role = role
        counters.connections = 0
        return counters

    def store(self, slot: int, counters: Counters) -> None:
        """Publish a snapshot of this process's counters."""
        data = json.dumps(_encode(counters), separators=(",", ":")).encode()
        if len(data) > SLOT_BYTES - _HEADER.size:
            return  # an old snapshot is better than a torn one; names are bounded, so not expected
        start = slot * SLOT_BYTES
        sequence, _length = _HEADER.unpack_from(self._map, start)
        _HEADER.pack_into(self._map, start, sequence | 1, len(data))
        self._map[start + _HEADER.size : start + _HEADER.size + len(data)] = data
        _HEADER.pack_into(self._map, start, (sequence | 1) + 1, len(data))

    def processes(self) -> Iterator[tuple[int, Counters]]:
        """The process id and the last snapshot of every slot in use."""
        for slot in range(self._slots):
            snapshot = self._read(slot)
            if snapshot is not None:
                yield int(str(snapshot["pid"])), _decode(snapshot)

    def _read(self, slot: int) -> dict[str, object] | None:
        start = slot * SLOT_BYTES
        for _attempt in range(_READ_ATTEMPTS):
            sequence, length = _HEADER.unpack_from(self._map, start)
            if sequence == 0:
                return None
            data = self._map[start + _HEADER.size : start + _HEADER.size + length]
            if sequence % 2 == 0 and _HEADER.unpack_from(self._map, start)[0] == sequence:
                decoded: dict[str, object] = json.loads(data)
                return decoded
            time.sleep(0)
        return None  # its process died within a write: the next one starts from nothing


def render(board: MetricsBoard, version: str, facts: StoreFacts | None = None) -> bytes:
    """All processes' counters added up, and the store's facts, in Prometheus' text exposition
    format 0.0.4.
    """
    total = Counters("all")
    lines: list[str] = []
    rss, cpu, up = [], [], []
    for pid, counters in board.processes():
        _add(total, counters)
        usage = process_usage(pid)
        label = f'{{role="{counters.role}",pid="{pid}"}}'
        up.append(f"objectstore_process_up{label} {int(usage is not None)}")
        if usage is not None:
            rss.append(f"objectstore_process_resident_memory_bytes{label} {usage[0]}")
            cpu.append(f"objectstore_process_cpu_seconds_total{label} {usage[1]:.2f}")
    _family(lines, "objectstore_info", "gauge", "The running version.")
    lines.append(f'objectstore_info{{version="{version}"}} 1')
    _requests(lines, total)
    for name, kind, text, value in (
        ("objectstore_http_request_bytes_total", "counter", "Bytes received.", total.bytes_in),
        ("objectstore_http_response_bytes_total", "counter", "Bytes sent.", total.bytes_out),
        ("objectstore_http_connections", "gauge", "Open connections.", total.connections),
        (
            "objectstore_http_connections_accepted_total",
            "counter",
            "Connections accepted.",
            total.connections_accepted,
        ),
        (
            "objectstore_http_connections_refused_total",
            "counter",
            "Connections answered with SlowDown because there were too many.",
            total.connections_refused,
        ),
        (
            "objectstore_application_faults_total",
            "counter",
            "Requests that ended in an unforeseen exception.",
            total.application_faults,
        ),
    ):
        _family(lines, name, kind, text)
        lines.append(f"{name} {value}")
    _family(lines, "objectstore_process_restarts_total", "counter", "Restarts after a crash.")
    for role, count in sorted(total.restarts.items()):
        lines.append(f'objectstore_process_restarts_total{{role="{role}"}} {count}')
    for name, kind, text, rows in (
        ("objectstore_process_up", "gauge", "Whether the process is alive.", up),
        ("objectstore_process_resident_memory_bytes", "gauge", "Resident memory.", rss),
        ("objectstore_process_cpu_seconds_total", "counter", "Processor time used.", cpu),
    ):
        _family(lines, name, kind, text)
        lines += rows
    if facts is not None:
        _store_facts(lines, facts)
        if facts.atlas is not None:
            _atlas_facts(lines, facts.atlas)
    return ("\n".join(lines) + "\n").encode()


def _store_facts(lines: list[str], facts: StoreFacts) -> None:
    for name, text, value in (
        ("objectstore_buckets", "Buckets.", facts.buckets),
        ("objectstore_objects", "Current objects.", facts.objects),
        ("objectstore_versions", "Versions with bytes.", facts.versions),
        ("objectstore_stored_bytes", "Bytes of all versions.", facts.size_bytes),
        ("objectstore_uploads", "Multipart uploads under way.", facts.uploads),
    ):
        _family(lines, name, "gauge", text)
        lines.append(f"{name} {value}")


def _atlas_facts(lines: list[str], facts: AtlasFacts) -> None:
    for name, kind, text, value in (
        ("objectstore_damage", "gauge", "Damaged places that the scrub knows of.", facts.damage),
        ("objectstore_scrubs_total", "counter", "Scrubs of the whole store.", facts.scrubs),
    ):
        _family(lines, name, kind, text)
        lines.append(f"{name} {value}")
    _family(lines, "objectstore_atlas_total", "counter", "What Atlas did: bytes freed and so on.")
    for what, count in sorted(facts.counters.items()):
        lines.append(f'objectstore_atlas_total{{what="{what}"}} {count}')
    name = "objectstore_atlas_pass_ended_seconds"
    _family(lines, name, "gauge", "When a pass of Atlas ended last, in seconds since 1970.")
    for which, ended in sorted(facts.passes.items()):
        lines.append(f'{name}{{pass="{which}"}} {ended:.3f}')


def process_usage(pid: int) -> tuple[int, float] | None:
    """Resident bytes and processor seconds of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[21]) * _PAGE_BYTES, ticks / _TICKS_PER_S


def _requests(lines: list[str], total: Counters) -> None:
    name = "objectstore_http_requests_total"
    _family(lines, name, "counter", "Requests by operation and status.")
    for operation, counter in sorted(total.operations.items()):
        for status, count in sorted(counter.statuses.items()):
            lines.append(f'{name}{{operation="{operation}",status="{status}"}} {count}')
    name = "objectstore_http_request_duration_seconds"
    _family(lines, name, "histogram", "From the end of the head to the end of the response.")
    for operation, counter in sorted(total.operations.items()):
        label = f'operation="{operation}"'
        running = 0
        for bound, count in zip((*LATENCY_BOUNDS_S, "+Inf"), counter.buckets, strict=True):
            running += count
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {running}')
        lines.append(f"{name}_sum{{{label}}} {counter.seconds:.6f}")
        lines.append(f"{name}_count{{{label}}} {running}")


def _family(lines: list[str], name: str, kind: str, text: str) -> None:
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")


def _add(total: Counters, other: Counters) -> None:
    for operation, counter in other.operations.items():
        into = total.operations.setdefault(operation, OperationCounter())
        into.seconds += counter.seconds
        into.buckets = [a + b for a, b in zip(into.buckets, counter.buckets, strict=True)]
        for status, count in counter.statuses.items():
            into.statuses[status] = into.statuses.get(status, 0) + count
    for role, count in other.restarts.items():
        total.restarts[role] = total.restarts.get(role, 0) + count
    total.bytes_in += other.bytes_in
    total.bytes_out += other.bytes_out
    total.connections += other.connections
    total.connections_accepted += other.connections_accepted
    total.connections_refused += other.connections_refused
    total.application_faults += other.application_faults


_PLAIN = (
    "bytes_in",
    "bytes_out",
    "connections",
    "connections_accepted",
    "connections_refused",
    "application_faults",
)


def _encode(counters: Counters) -> dict[str, object]:
    encoded: dict[str, object] = {name: getattr(counters, name) for name in _PLAIN}
    encoded["pid"] = os.getpid()
    encoded["role"] = counters.role
    encoded["restarts"] = counters.restarts
    encoded["operations"] = {
        operation: [list(counter.statuses.items()), counter.buckets, counter.seconds]
        for operation, counter in counters.operations.items()
    }
    return encoded


def _decode(snapshot: dict[str, object]) -> Counters:
    counters = Counters(str(snapshot["role"]))
    for name in _PLAIN:
        setattr(counters, name, snapshot[name])
    restarts = snapshot["restarts"]
    operations = snapshot["operations"]
    if isinstance(restarts, dict) and isinstance(operations, dict):
        counters.restarts = restarts
        for operation, (statuses, buckets, seconds) in operations.items():
            counter = counters.operations[operation] = OperationCounter()
            counter.statuses = dict(statuses)
            counter.buckets = list(buckets)
            counter.seconds = seconds
    return counters
