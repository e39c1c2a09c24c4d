"""Whether a bucket's size changes what its operations cost: our store alone.

One store a size, all running, measured in turn round after round, so that what else the machine
does falls on all of them; the row of a size is its median round. The buckets hold tiny objects,
made fast; keys drawn from all over the bucket are overwritten with 4 KiB first, and those are what
is read and overwritten again, so that a bucket keeps its size and every size moves equal objects.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from . import wrk
from .cases import Bench
from .outcome import CaseError
from .recorder import KIB, Plan, say
from .results import Missed, Results, middle
from .systems import OUR_SYSTEM, OURS, Server, our_binary
from .workloads import PAGE_KEYS

ROUNDS = 5
ROUND_S = 2
SAMPLE = 10_000
PAGES = 512
BODY = wrk.Body(4 * KIB, seed=7)
CASES = {"GROWTH PUT 4 KiB": 16, "GROWTH GET": 16, "GROWTH LIST page": 1}


def key_of(number: int) -> str:
    """Keys scattered over the whole order, whatever order they are made in."""
    return f"{number * 2654435761 % 2**32:08x}/{number:08d}"


@dataclass(frozen=True)
class Store:
    """A running store with a bucket of that many objects, and what is asked of it."""

    bench: Bench
    objects: int
    targets: list[str]
    pages: list[str]

    def measure(self) -> None:
        """One round of all cases. Raises: CaseError."""
        signer = self.bench.signer
        prepared = (
            self.writes(),
            wrk.prepare_gets(signer, self.targets, BODY.size),
            wrk.prepare_gets(signer, self.pages, 0),
        )
        for (case, connections), requests in zip(CASES.items(), prepared, strict=True):
            payload = requests.payload_bytes or None
            self.bench.replay(case, connections, requests, payload=payload, objects=self.objects)

    def writes(self) -> wrk.Prepared:
        return wrk.prepare_puts(self.bench.signer, self.targets, BODY)


def run(plan: Plan, results: Results) -> None:
    """Measure all sizes; what fails is noted in the results."""
    rounds = Results()
    try:
        with contextlib.ExitStack() as held:
            short = replace(plan, seconds=min(plan.seconds, ROUND_S))
            stores = [_make(size, short, rounds, held) for size in plan.growth]
            os.sync()
            for _ in range(ROUNDS):
                for store in stores:
                    store.measure()
    except CaseError as error:
        results.missed.append(Missed(OURS, "growth", str(error)))
        say(f"  growth: {error}")
    results.rows += middle(rounds.rows, lambda row: row.p50_ms)


def _make(size: int, plan: Plan, rounds: Results, held: contextlib.ExitStack) -> Store:
    say(f"  store of {size:,} objects")
    folder = tempfile.TemporaryDirectory(prefix=f"bench-growth-{size}-", dir=plan.folder)
    server = held.enter_context(Server(OUR_SYSTEM, our_binary(), Path(held.enter_context(folder))))
    server.start()
    bench = Bench(server, plan, rounds, variant=f"{size:,} objects")
    keys = [key_of(number) for number in range(size)]
    bench.seed("growth", keys)
    draw = random.Random(size)
    query = "?list-type=2&max-keys=1000&start-after="
    starts = draw.choices(sorted(keys)[: size - PAGE_KEYS - 1], k=PAGES)
    store = Store(
        bench,
        size,
        [f"/growth/{key}" for key in draw.choices(keys, k=SAMPLE)],
        [f"/growth{query}{key.replace('/', '%2F')}" for key in starts],
    )
    writes = store.writes()
    bench.send_all(map(writes.request, range(SAMPLE)))
    return store
