"""`python -m tests.bench`: 4 KiB PUT and GET with 16 connections, LIST pages of 1,000.

Systems run one after the other, on the same disk, with the same client. Writes
build/bench/latest.json and prints a table with the ratio to the peer.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from objectstore_app.config.settings import default_workers
from objectstore_app.protocol.sigv4_signer import presign

from .load import Outcome, measure
from .systems import ACCESS_KEY, SECRET_KEY, System, minio, objectstore

OBJECT_BYTES = 4096
CONNECTIONS = 16
LIST_KEYS = 10_000
SIGNED_REQUESTS = 40_000
CREATE_ATTEMPTS = 50
BUCKET = "bench"
LIST_BUCKET = "bench-list"
OUTPUT = Path("build/bench/latest.json")


@dataclass
class Row:
    """One line of the results."""

    system: str
    version: str
    durability: str
    case: str
    connections: int
    ops_per_s: float
    mib_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float
    rss_mib: float
    pss_mib: float
    client_cpu_share: float


class Requests:
    """Presigned requests to one server, as bytes."""

    def __init__(self, system: System) -> None:
        self._host = f"127.0.0.1:{system.port}"

    def __call__(self, method: str, target: str, body: bytes = b"") -> bytes:
        signed = presign(
            method,
            target,
            {"host": self._host},
            access_key=ACCESS_KEY,
            secret=SECRET_KEY,
            region="us-east-1",
            now=time.time(),
        )
        length = f"Content-Length: {len(body)}\r\n" if method == "PUT" else ""
        head = f"{method} {signed} HTTP/1.1\r\nHost: {self._host}\r\n{length}\r\n"
        return head.encode() + body


def measure_system(system: System, seconds: float) -> list[Row]:
    """All cases against one running system."""
    make = Requests(system)
    body = random.Random(1).randbytes(OBJECT_BYTES)
    for bucket in (BUCKET, LIST_BUCKET):
        _create(system, make, bucket)
    _all(system, (make("PUT", f"/{LIST_BUCKET}/{n:05d}") for n in range(LIST_KEYS)), CONNECTIONS)
    keys = [f"/{BUCKET}/{n % 256:02x}/{n:08d}" for n in range(SIGNED_REQUESTS)]
    puts = [make("PUT", key, body) for key in keys]
    rows = [_timed(system, f"PUT {OBJECT_BYTES // 1024} KiB", puts, CONNECTIONS, seconds)]
    written = min(int(rows[0].ops_per_s * seconds), SIGNED_REQUESTS) * 9 // 10
    picked = random.Random(2).sample(keys[: max(written, 1)], min(written, SIGNED_REQUESTS))
    gets = [make("GET", key) for key in picked]
    _say(rows[-1])
    rows.append(_timed(system, f"GET {OBJECT_BYTES // 1024} KiB", gets, CONNECTIONS, seconds))
    _say(rows[-1])
    pages = list(_list_pages(make))
    for connections in (1, CONNECTIONS):
        rows.append(_timed(system, "LIST 1000", pages, connections, seconds))
        _say(rows[-1])
    return rows


def _list_pages(make: Requests) -> Iterator[bytes]:
    for page in range(LIST_KEYS // 1000):
        after = f"&start-after={page * 1000 - 1:05d}" if page else ""
        yield make("GET", f"/{LIST_BUCKET}?list-type=2&max-keys=1000{after}")


def _create(system: System, make: Requests, bucket: str) -> None:
    """Make a bucket; a peer that says it is ready may still answer 503 for a moment."""
    for _ in range(CREATE_ATTEMPTS):
        outcome = measure(
            "127.0.0.1", system.port, iter([make("PUT", f"/{bucket}")]), connections=1
        )
        if set(outcome.failures) != {503}:
            break
        time.sleep(0.2)
    _check(outcome, f"{system.name}: create {bucket}")


def _all(system: System, requests: Iterator[bytes], connections: int) -> None:
    _check(measure("127.0.0.1", system.port, requests, connections=connections), system.name)


def _timed(
    system: System, case: str, requests: list[bytes], connections: int, seconds: float
) -> Row:
    before, _, _ = system.usage()
    outcome = measure(
        "127.0.0.1",
        system.port,
        itertools.cycle(requests),
        connections=connections,
        seconds=seconds,
    )
    after, resident, proportional = system.usage()
    _check(outcome, f"{system.name} {case}")
    moved = OBJECT_BYTES * outcome.operations if case.startswith("PUT") else outcome.body_bytes
    return Row(
        system=system.name,
        version=system.version,
        durability=system.durability,
        case=case,
        connections=connections,
        ops_per_s=round(outcome.operations / outcome.seconds, 1),
        mib_per_s=round(moved / outcome.seconds / 2**20, 2),
        p50_ms=round(outcome.percentile(0.5), 3),
        p99_ms=round(outcome.percentile(0.99), 3),
        cpu_s_per_1000=round((after - before) / outcome.operations * 1000, 4),
        rss_mib=round(resident, 1),
        pss_mib=round(proportional, 1),
        client_cpu_share=round(outcome.client_cpu_s / outcome.seconds, 2),
    )


def _check(outcome: Outcome, what: str) -> None:
    if outcome.failures or not outcome.operations:
        raise SystemExit(f"{what}: answers other than success: {outcome.failures}")


def _say(row: Row) -> None:
    """Progress, for a run takes a minute or more."""
    print(f"  {row.case} c{row.connections}: {row.ops_per_s:.0f}/s", flush=True)


def _print(rows: list[Row]) -> None:
    print(
        f"{'system':<12} {'case':<10} {'conn':>4} {'ops/s':>9} {'MiB/s':>8} {'p50 ms':>8} "
        f"{'p99 ms':>8} {'cpu s/1000':>10} {'RSS MiB':>8} {'PSS MiB':>8} {'client':>7} {'ratio':>6}"
    )
    peers = {(row.case, row.connections): row for row in rows if row.system != "objectstore"}
    for row in rows:
        peer = peers.get((row.case, row.connections))
        ratio = f"{row.ops_per_s / peer.ops_per_s:.2f}" if peer and peer is not row else ""
        print(
            f"{row.system:<12} {row.case:<10} {row.connections:>4} {row.ops_per_s:>9.0f} "
            f"{row.mib_per_s:>8.1f} {row.p50_ms:>8.2f} {row.p99_ms:>8.2f} "
            f"{row.cpu_s_per_1000:>10.3f} {row.rss_mib:>8.0f} {row.pss_mib:>8.0f} "
            f"{row.client_cpu_share:>7.0%} {ratio:>6}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="time of each case")
    parser.add_argument(
        "--workers", type=int, default=default_workers(), help="our front-end processes"
    )
    parser.add_argument("--minio", default=shutil.which("minio"), help="its binary")
    parser.add_argument("--folder", help="where to put the data (default: the temporary folder)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in ("objectstore", "minio"):
        if name == "minio" and not options.minio:
            print("minio: no binary found; give one with --minio")
            continue
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=options.folder) as folder:
            running: AbstractContextManager[System] = (
                minio(Path(folder), options.minio)
                if name == "minio"
                else objectstore(Path(folder), options.workers)
            )
            with running as system:
                print(f"{name} {system.version}: ready after {system.start_s:.2f} s", flush=True)
                rows += measure_system(system, options.seconds)
    _print(rows)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
