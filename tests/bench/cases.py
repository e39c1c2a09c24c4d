"""The cases that every system goes through, in groups; each run gives a row.

What is written by one case is what the next reads: 4 KiB GETs ask for keys of the 4 KiB PUTs, and
DELETE ends what they made. Requests are signed right before their case.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable

from . import bulk, wrk
from .outcome import CaseError
from .processes import memory
from .recorder import KIB, Recorder, many, say
from .systems import BUCKET
from .workloads import (
    MIB,
    PART_BYTES,
    PARTS,
    Part,
    checked_walk,
    deletions,
    puts,
    upload_digest,
    upload_target,
    uploads,
    walk,
)

GROUPS = ("4k", "64k", "1m", "64m", "list", "delete")
LIST_BUCKET = "bench-list"
LIST_TOPS, LIST_FOLDERS = 10, 100
IDLE_AFTER_S = 1.5
GET_SAMPLE = 20_000
GET_SHARE = 0.7
HUGE_CONNECTIONS = 4
HUGE_READ = 16
RANGE_BYTES = 64 * KIB
RANGES = 4096
DELETE_BATCH = 1000
PROBE_S = 0.4
IN_FLIGHT_MAX = 64
# How many requests a second to prepare for; a faster system goes round and overwrites.
PUT_RATES = {1: 6_000, 16: 20_000, 64: 25_000}


class Bench(Recorder):
    """The groups of cases."""

    def start(self) -> None:
        """Start over an empty folder; what it takes idle."""
        self._started("START fresh")
        time.sleep(IDLE_AFTER_S)
        idle = memory(self.server.pid)
        row = self.new_row("IDLE", 0)
        row.rss_mib, row.pss_mib = round(idle.rss, 1), round(idle.pss, 1)
        self.results.rows.append(row)
        say(f"  idle: RSS {row.rss_mib:.0f} MiB, PSS {row.pss_mib:.0f} MiB")

    def restart(self) -> None:
        """Stop in good order, and start over what all the cases left."""
        self.server.stop()
        self._started("START again")

    def _started(self, case: str) -> None:
        row = self.new_row(case, 1)
        row.p50_ms = row.p99_ms = round(self.server.start() * 1000, 1)
        self.signer = self.server.signer
        self.results.rows.append(row)
        say(f"  {case}: first PUT after {row.p50_ms:.0f} ms")

    def run_groups(self) -> None:
        """All chosen groups; where one cannot go on, that is noted and the next one begins."""
        groups: dict[str, Callable[[], None]] = {
            "4k": lambda: self.small("4 KiB", 4 * KIB, self.plan.connections),
            "64k": lambda: self.small("64 KiB", 64 * KIB, (16,)),
            "1m": self.large,
            "64m": self.huge,
            "list": self.listing,
            "delete": self.deleting,
        }
        for name, run in groups.items():
            if name in self.plan.groups:
                try:
                    run()
                except CaseError as error:
                    self.miss(name, error)

    def small(self, label: str, size: int, levels: tuple[int, ...]) -> None:
        """PUT, GET and a mix of both by wrk."""
        body = wrk.Body(size, seed=size, text=self.text)
        self._warm_up(body)
        kept: list[str] = []
        for connections in levels:
            targets = self._targets(label, f"c{connections}", size, connections)
            prepared = wrk.prepare_puts(self.signer, targets, body)
            row = self.replay(f"PUT {label}", connections, prepared, payload=size)
            if row:
                done = min(int(row.ops_per_s * self.plan.seconds) - IN_FLIGHT_MAX, len(targets))
                kept += targets[: max(done, 1)]
        if not kept:
            raise CaseError("nothing was written that could be read")
        self.written[label] = kept
        self.verify(kept[0], hashlib.sha256(body.shared + body.ending(0)[0]).hexdigest())
        sample = random.Random(2).choices(kept, k=min(GET_SAMPLE, len(kept)))
        for connections in levels:
            gets = wrk.prepare_gets(self.signer, sample, size)
            row = self.replay(f"GET {label}", connections, gets, payload=size)
            if row and connections == levels[0]:
                row.ttfb_ms = self._first_byte_ms(gets)
        for connections in levels:
            targets = self._targets(label, f"m{connections}", size, connections)
            targets = targets[: int(len(targets) * (1 - GET_SHARE)) + 1]
            fresh = wrk.prepare_puts(self.signer, targets, body)
            gets = wrk.prepare_gets(self.signer, sample, size)
            mixed = wrk.mix(gets, fresh, get_share=GET_SHARE, seed=connections)
            self.replay(f"MIXED {label}", connections, mixed, payload=size)

    def large(self) -> None:
        """1 MiB by threads: bodies neither copied nor read."""
        connections, port, seconds = 16, self.server.port, self.plan.seconds
        body = wrk.Body(MIB, seed=MIB, text=self.text)
        targets = self._targets("1 MiB", "c16", MIB, connections)
        prepared = wrk.prepare_puts(self.signer, targets, body)
        numbers = itertools.count()
        senders = [puts(prepared, numbers) for _ in range(connections)]
        self.record(
            "PUT 1 MiB",
            connections,
            "threads",
            lambda: bulk.measure(port, senders, seconds=seconds),
            payload=MIB,
        )
        kept = targets[: max(min(next(numbers) - IN_FLIGHT_MAX, len(targets)), 1)]
        self.verify(kept[0], hashlib.sha256(body.shared + body.ending(0)[0]).hexdigest())
        gets = wrk.prepare_gets(self.signer, kept, MIB)
        reads = itertools.cycle(gets.heads)
        self.record(
            "GET 1 MiB",
            connections,
            "threads",
            lambda: bulk.measure(port, many(reads, connections), seconds=seconds),
            payload=MIB,
            first_byte=True,
        )

    def huge(self) -> None:
        """64 MiB: multipart uploads of 8 MiB parts, and reads of what they made."""
        size, port, seconds = PARTS * PART_BYTES, self.server.port, self.plan.seconds
        numbers = itertools.count()
        parts = [Part(text=self.text) for _ in range(HUGE_CONNECTIONS)]
        senders = [uploads(self.signer, numbers, part) for part in parts]
        self.record(
            "PUT 64 MiB multipart",
            HUGE_CONNECTIONS,
            "threads",
            lambda: bulk.measure(port, senders, seconds=seconds),
            payload=size,
        )
        self.verify(upload_target(0), upload_digest(0, parts[0]))
        there = min(max(next(numbers) - 2 * HUGE_CONNECTIONS, 1), HUGE_READ)
        heads = [self.signer.head("GET", upload_target(number)) for number in range(there)]
        reads = itertools.cycle(heads)
        self.record(
            "GET 64 MiB",
            HUGE_CONNECTIONS,
            "threads",
            lambda: bulk.measure(port, many(reads, HUGE_CONNECTIONS), seconds=seconds),
            payload=size,
            first_byte=True,
        )
        ranges = wrk.Prepared(RANGE_BYTES)
        draw = random.Random(5)
        for number in range(RANGES):
            start = draw.randrange(size - RANGE_BYTES)
            wanted = f"Range: bytes={start}-{start + RANGE_BYTES - 1}\r\n"
            ranges.heads.append(
                self.signer.head("GET", upload_target(number % there), extra=wanted)
            )
            ranges.endings.append(b"")
        self.replay("RANGE 64 KiB of 64 MiB", 16, ranges, payload=RANGE_BYTES)

    def listing(self) -> None:
        """A bucket of many keys: the whole of it, pages of common prefixes, pages far inside."""
        keys = list_keys(self.plan.list_keys)
        self.seed(LIST_BUCKET, keys)
        count = len(keys)
        self.load([checked_walk(self.signer, LIST_BUCKET, count)]).check("a walk")
        ordered = sorted(keys)
        far = random.Random(3).choices(ordered[count // 2 : -1000], k=256)
        seconds = self.plan.seconds
        for connections in (1, 16):
            walkers = [walk(self.signer, LIST_BUCKET) for _ in range(connections)]
            self.record(
                "LIST full",
                connections,
                "loop",
                lambda w=walkers: self.load(w, seconds),
                first_byte=True,
            )
            query = "?delimiter=%2F&list-type=2&prefix="
            folders = [f"/{LIST_BUCKET}{query}p{top}%2F" for top in range(LIST_TOPS)]
            prepared = wrk.prepare_gets(self.signer, folders, 0)
            self.replay("LIST delimiter", connections, prepared)
            query = "?list-type=2&max-keys=1000&start-after="
            pages = [f"/{LIST_BUCKET}{query}{key.replace('/', '%2F')}" for key in far]
            prepared = wrk.prepare_gets(self.signer, pages, 0)
            self.replay("LIST deep", connections, prepared)

    def deleting(self) -> None:
        """DELETE of what the 4 KiB PUTs made, DeleteObjects of what was listed; each key once."""
        targets = self.written.get("4 KiB", [])[: self.plan.seconds * 3000]
        if targets:
            requests = (self.signer.head("DELETE", target) for target in targets)
            self.record("DELETE", 16, "loop", lambda: self.load(many(requests, 16)))
        if "list" in self.plan.groups:
            keys = list_keys(self.plan.list_keys)
            starts = range(0, len(keys), DELETE_BATCH)
            batches = iter([keys[at : at + DELETE_BATCH] for at in starts])
            askers = [deletions(self.signer, LIST_BUCKET, batches) for _ in range(4)]
            self.record("DeleteObjects 1000", 4, "loop", lambda: self.load(askers))

    def _targets(self, label: str, run: str, size: int, connections: int) -> list[str]:
        rate = PUT_RATES[connections] * 4 * KIB // size
        count = max(rate * self.plan.seconds, 2 * connections)
        folder = f"/{BUCKET}/{label.replace(' ', '')}-{run}"
        return [f"{folder}/{number % 256:02x}/{number:08d}" for number in range(count)]

    def _warm_up(self, body: wrk.Body) -> None:
        targets = [f"/{BUCKET}/warm/{number}" for number in range(500)]
        prepared = wrk.prepare_puts(self.signer, targets, body)
        whole = map(prepared.request, range(len(targets)))
        self.send_all(whole)
        self.send_all(iter(wrk.prepare_gets(self.signer, targets, body.size).heads))

    def _first_byte_ms(self, gets: wrk.Prepared) -> float | None:
        """Median time to the first byte of the answer, one connection."""
        probed = self.load(many(itertools.cycle(gets.heads), 1), PROBE_S).ttfb_ms
        return None if probed is None else round(probed, 3)


def list_keys(count: int) -> list[str]:
    """Keys in two levels of folders, in no order that a listing could profit from."""
    each = count // (LIST_TOPS * LIST_FOLDERS)
    keys = [
        f"p{top}/d{folder:02d}/{number:06d}"
        for top in range(LIST_TOPS)
        for folder in range(LIST_FOLDERS)
        for number in range(each)
    ]
    random.Random(4).shuffle(keys)
    return keys
