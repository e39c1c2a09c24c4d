"""`make bench`: our store and its peers on one disk, one after the other, with one client.

Prints a table of ratios and a verdict on each goal; writes build/bench/latest.json (the rows), .md
(the tables) and .png (a plot). docs/benchmarks.md says how to read them. Peers are looked for in a
cache folder and on the PATH, and installed from their registries where `go` or `cargo` is there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import growth, report, wrk
from .cases import GROUPS, Bench, Plan, free_bytes, say
from .goals import judge
from .outcome import CaseError
from .peers import default_folder, obtain
from .results import Missed, Results
from .systems import OURS, SYSTEMS, Server, System, our_binary

SECONDS, QUICK_SECONDS = 5, 1
LIST_KEYS, QUICK_LIST_KEYS = 100_000, 10_000
GROWTH = (10_000, 100_000, 1_000_000)
QUICK_GROWTH = (10_000, 100_000)
FREE_GIB_MIN = 20
EXTRA_GROUPS = ("growth",)
# Timed runs of each group, quick and full; what a system takes besides, in seconds.
RUNS = {"4k": (6, 9), "64k": (3, 3), "1m": (2, 2), "64m": (2, 2), "list": (6, 6), "delete": (2, 2)}
BESIDES_S = {True: 12, False: 75}
GROWTH_S = {True: 45, False: 300}


def arguments() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    usual = [system.name for system in SYSTEMS if system.by_default]
    groups = [*GROUPS, *EXTRA_GROUPS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--systems", nargs="+", choices=names, default=usual, metavar="NAME")
    parser.add_argument("--cases", nargs="+", choices=groups, default=groups, metavar="GROUP")
    parser.add_argument("--seconds", type=int, help=f"of each timed run (default {SECONDS})")
    parser.add_argument("--quick", action="store_true", help="about 3 minutes; installs nothing")
    parser.add_argument("--peers", type=Path, default=default_folder(), help="binaries' folder")
    parser.add_argument("--no-install", action="store_true", help="leave out who is not there")
    parser.add_argument("--folder", type=Path, help="where data goes (default: temporary folder)")
    parser.add_argument("--output", type=Path, default=report.OUTPUT, help="the JSON file")
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    parser.epilog = f"systems: {', '.join(names)}; cases: {', '.join(groups)}"
    return parser.parse_args()


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    program = wrk.find()
    if program is None:
        say("wrk, the client of this bench, is missing: apt-get install wrk (Debian's package)")
        return 1
    if free_bytes(options.folder) < FREE_GIB_MIN * 2**30:
        say(f"less than {FREE_GIB_MIN} GiB are free where the data would go: choose --folder")
        return 1
    quick = options.quick
    plan = Plan(
        seconds=options.seconds or (QUICK_SECONDS if quick else SECONDS),
        quick=quick,
        groups=frozenset(options.cases),
        list_keys=QUICK_LIST_KEYS if quick else LIST_KEYS,
        growth=QUICK_GROWTH if quick else GROWTH,
        wrk=program,
        folder=options.folder,
    )
    results = Results()
    chosen = []
    for system in SYSTEMS:
        if system.name in options.systems:
            install = not (quick or options.no_install)
            binary, reason = _binary(system, options.peers, install=install)
            if binary is None:
                say(f"{system.name}: left out, {reason}")
                results.missed.append(Missed(system.name, "all", reason))
            else:
                chosen.append((system, binary))
    _run(chosen, plan, results)
    _finish(results, options.output)
    found = judge(results)
    say("\n" + report.verdicts(found))
    return int(options.strict and any(verdict.held is False for verdict in found))


def _binary(system: System, folder: Path, *, install: bool) -> tuple[str | None, str]:
    if system.peer is None:
        return our_binary(), ""
    return obtain(system.peer, folder, install=install)


def _run(chosen: list[tuple[System, str]], plan: Plan, results: Results) -> None:
    grows = "growth" in plan.groups and OURS in (system.name for system, _ in chosen)
    say(f"about {_estimate_s(len(chosen), plan, grows=grows) / 60:.0f} minutes\n")
    began = time.monotonic()
    for system, binary in chosen:
        _measure(system, binary, plan, results)
        say(f"  {time.monotonic() - began:.0f} s so far\n")
    if grows:
        say("growth")
        growth.run(plan, results)
        say(f"  {time.monotonic() - began:.0f} s in all\n")


def _estimate_s(systems: int, plan: Plan, *, grows: bool) -> float:
    runs = sum(RUNS[group][not plan.quick] for group in plan.groups if group in RUNS)
    each = runs * (plan.seconds + 1) + BESIDES_S[plan.quick]
    return systems * each + (GROWTH_S[plan.quick] if grows else 0)


def _measure(system: System, binary: str, plan: Plan, results: Results) -> None:
    prefix = f"bench-{system.name}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=plan.folder) as folder,
        Server(system, binary, Path(folder)) as server,
    ):
        say(f"{system.name} {server.version}, syncs: {system.durability}")
        try:
            bench = Bench(server, plan, results)
            bench.start()
            bench.run_groups()
            bench.restart()
        except CaseError as error:
            results.missed.append(Missed(system.name, "all", str(error)))
            say(f"  {error}")
    os.sync()  # what a peer left unwritten is not to be paid by the next


def _finish(results: Results, output: Path) -> None:
    results.write(output)
    output.with_suffix(".md").write_text(report.page(results), encoding="utf-8")
    report.plot(results, output.with_suffix(".png"))
    say(report.tables(results))
    written = " ".join(str(output.with_suffix(suffix)) for suffix in (".json", ".md", ".png"))
    say(f"\nwritten: {written}")


if __name__ == "__main__":
    sys.exit(main())
