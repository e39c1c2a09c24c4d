"""Whether a bucket's size changes what its operations cost: our store alone.

One store a size, all running, measured in turn round after round, so that what else the machine
does falls on all of them; the row of a size is its median round. PUTs overwrite, so that a bucket
keeps its size while it is measured.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from pathlib import Path

from . import wrk
from .cases import KIB, LIST_BODY, Bench, Plan, say
from .conversations import PAGE_KEYS
from .outcome import CaseError, median
from .results import Missed, Results, Row
from .systems import OURS, SYSTEMS, Server, our_binary

ROUNDS = 3
SAMPLE = 20_000
PAGES = 512
CASES = {"GROWTH PUT 4 KiB": 16, "GROWTH GET": 16, "GROWTH LIST page": 1}


def key_of(number: int) -> str:
    """Keys scattered over the whole order, whatever order they are made in."""
    return f"{number * 2654435761 % 2**32:08x}/{number:08d}"


def run(plan: Plan, results: Results) -> None:
    """Measure all sizes; what fails is noted in the results."""
    ours = next(system for system in SYSTEMS if system.name == OURS)
    rounds = Results()
    try:
        with contextlib.ExitStack() as held:
            benches = {}
            for size in plan.growth:
                prefix = f"bench-growth-{size}-"
                folder = held.enter_context(
                    tempfile.TemporaryDirectory(prefix=prefix, dir=plan.folder)
                )
                server = held.enter_context(Server(ours, our_binary(), Path(folder)))
                server.start()
                benches[size] = bench = Bench(server, plan, rounds)
                say(f"  store of {size} objects")
                bench.seed("growth", [key_of(number) for number in range(size)])
            os.sync()
            for _ in range(ROUNDS):
                for size, bench in benches.items():
                    _measure(bench, size)
    except CaseError as error:
        results.missed.append(Missed(OURS, "growth", str(error)))
        say(f"  growth: {error}")
    results.rows += middle(rounds.rows)


def _measure(bench: Bench, size: int) -> None:
    draw = random.Random(size)
    picked = draw.choices(range(size), k=SAMPLE)
    targets = [f"/growth/{key_of(number)}" for number in picked]
    body = wrk.Body(4 * KIB, seed=7)
    reads = wrk.prepare_gets(bench.signer, targets, len(LIST_BODY))
    query = "?list-type=2&max-keys=1000&start-after="
    ordered = sorted(key_of(number) for number in range(size))
    starts = draw.choices(ordered[: size - PAGE_KEYS - 1], k=PAGES)
    after = [f"/growth{query}{key.replace('/', '%2F')}" for key in starts]
    pages = wrk.prepare_gets(bench.signer, after, 0)
    writes = wrk.prepare_puts(bench.signer, targets, body)
    for (case, connections), prepared in zip(CASES.items(), (writes, reads, pages), strict=True):
        bench.replay(case, connections, prepared, objects=size)


def middle(rows: list[Row]) -> list[Row]:
    """Of the rounds of each case and size, the one with the median p50."""
    kept = []
    for case, objects in dict.fromkeys((row.case, row.objects) for row in rows):
        rounds = [row for row in rows if (row.case, row.objects) == (case, objects)]
        wanted = median([row.p50_ms for row in rounds])
        kept.append(next(row for row in rounds if row.p50_ms == wanted))
    return kept
