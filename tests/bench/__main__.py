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
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from . import bounds, growth, report, transforms, upkeep, wrk
from .cases import GROUPS, Bench
from .goals import judge
from .outcome import CaseError
from .peers import default_folder, obtain
from .processes import busy, machine, unfit_disk
from .recorder import Plan, say
from .results import Missed, Results
from .systems import OURS, SYSTEMS, Server, System, our_binary

FULL = Plan(
    seconds=5,
    connections=(1, 16, 64),
    list_keys=100_000,
    growth=(10_000, 100_000, 1_000_000),
    largest_mib=5 * 1024,
    litter_mib=2 * 1024,
)
QUICK = Plan(
    seconds=1,
    connections=(16, 64),
    list_keys=10_000,
    growth=(10_000, 100_000),
    largest_mib=512,
    litter_mib=1024,
)
FREE_GIB_MIN = 25
# Groups of our store alone, each with a module of its own.
OWN_GROUPS: dict[str, Callable[[Plan, Results], None]] = {
    "growth": growth.run,
    "bounds": bounds.run,
    "transforms": transforms.run,
    "atlas": upkeep.run,
}
NOT_QUICK = {"transforms", "atlas"}
# What a group takes: timed runs (of each number of connections for 4k), and seconds besides.
TAKES = {
    "4k": (3, 3, 5),
    "64k": (3, 1, 3),
    "1m": (2, 1, 2),
    "64m": (3, 3, 6),
    "list": (6, 4, 60),
    "delete": (2, 0, 15),
    "growth": (0, 45, 300),
    "bounds": (0, 10, 60),
    "transforms": (21, 25, 40),
    "atlas": (0, 50, 75),
}
SYSTEM_S = 6


def arguments() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    usual = [system.name for system in SYSTEMS if system.by_default]
    groups = [*GROUPS, *OWN_GROUPS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--systems", nargs="+", choices=names, default=usual, metavar="NAME")
    parser.add_argument("--cases", nargs="+", choices=groups, metavar="GROUP")
    parser.add_argument("--seconds", type=int, help=f"of each timed run (default {FULL.seconds})")
    parser.add_argument(
        "--quick", action="store_true", help="each case for a second; installs nothing"
    )
    parser.add_argument("--peers", type=Path, default=default_folder(), help="binaries' folder")
    parser.add_argument("--no-install", action="store_true", help="leave out who is not there")
    parser.add_argument("--folder", type=Path, default=FULL.folder, help="where the data goes")
    parser.add_argument("--output", type=Path, default=report.OUTPUT, help="the JSON file")
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    parser.epilog = (
        f"systems: {', '.join(names)}; cases: {', '.join(groups)} (all of them, --quick without "
        f"{' and '.join(sorted(NOT_QUICK))})"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    program = wrk.find()
    if program is None:
        say("wrk, the client of this bench, is missing: apt-get install wrk (Debian's package)")
        return 1
    if reason := unfit_disk(options.folder, FREE_GIB_MIN):
        say(f"{reason}: choose another --folder")
        return 1
    scale = QUICK if options.quick else FULL
    groups = {*GROUPS, *OWN_GROUPS} - (NOT_QUICK if options.quick else set())
    plan = replace(
        scale,
        seconds=options.seconds or scale.seconds,
        groups=frozenset(options.cases or groups),
        wrk=program,
        folder=options.folder,
    )
    about = machine()
    say(about)
    if warning := busy():
        say(warning)
        about = f"{about}; {warning}"
    results = Results()
    chosen = []
    for system in SYSTEMS:
        if system.name in options.systems:
            install = not (options.quick or options.no_install)
            binary, reason = _binary(system, options.peers.resolve(), install=install)
            if binary is None:
                say(f"{system.name}: left out, {reason}")
                results.missed.append(Missed(system.name, "all", reason))
            else:
                chosen.append((system, binary))
    _run(chosen, plan, results)
    _finish(results, options.output, about)
    found = judge(results)
    say("\n" + report.verdicts(found))
    return int(options.strict and any(verdict.held is False for verdict in found))


def _binary(system: System, folder: Path, *, install: bool) -> tuple[str | None, str]:
    if system.peer is None:
        return our_binary(), ""
    return obtain(system.peer, folder, install=install)


def _run(chosen: list[tuple[System, str]], plan: Plan, results: Results) -> None:
    shared = plan.groups & set(GROUPS)
    own = [name for name in OWN_GROUPS if name in plan.groups]
    if OURS not in (system.name for system, _ in chosen):
        own = []
    say(f"about {_estimate_s(len(chosen), shared, own, plan) / 60:.0f} minutes\n")
    began = time.monotonic()
    os.sync()
    for system, binary in chosen if shared else []:
        _measure(system, binary, plan, results)
        say(f"  {time.monotonic() - began:.0f} s so far\n")
    for name in own:
        say(f"{name} (our store alone)")
        OWN_GROUPS[name](plan, results)
        os.sync()
        say(f"  {time.monotonic() - began:.0f} s so far\n")


def _estimate_s(systems: int, shared: Iterable[str], own: list[str], plan: Plan) -> float:
    def takes(group: str) -> float:
        runs, quick_s, full_s = TAKES[group]
        runs *= len(plan.connections) if group == "4k" else 1
        return runs * (plan.seconds + 0.7) + (quick_s if plan.seconds < FULL.seconds else full_s)

    each = sum(map(takes, shared)) + SYSTEM_S if shared else 0
    return systems * each + sum(map(takes, own))


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


def _finish(results: Results, output: Path, about: str) -> None:
    found = judge(results)
    results.write(output, found)
    page = report.page(results, about, found)
    output.with_suffix(".md").write_text(page, encoding="utf-8")
    report.plot(results, output.with_suffix(".png"))
    say(report.tables(results))
    written = " ".join(str(output.with_suffix(suffix)) for suffix in (".json", ".md", ".png"))
    say(f"\nwritten: {written}")


if __name__ == "__main__":
    sys.exit(main())
