"""`make bench-cluster`: our store on RADOS and radosgw, one cluster, one client, one run.

The cluster is one of its own on loopback (a monitor, a manager, three OSDs on files, three
replicas); both systems, the client and all OSDs share the machine, so compare ratios. Writes
build/bench/cluster.json and .md; docs/benchmarks.md says how to read them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import report, wrk
from tests.bench.cases import Bench
from tests.bench.outcome import CaseError, Outcome
from tests.bench.processes import busy, cpu_seconds, machine, unfit_disk
from tests.bench.recorder import Plan, say
from tests.bench.results import Missed, Results, Row
from tests.bench.systems import Server
from tests.ceph.cluster import CephCluster, missing

from .goals import judge
from .systems import OnCluster, systems

OUTPUT = Path("build/bench/cluster.json")
GROUPS = ("4k", "list", "64m")
FULL = Plan(
    seconds=5, connections=(16,), list_keys=20_000, growth=(), largest_mib=0, litter_mib=0,
)  # fmt: skip
QUICK = replace(FULL, seconds=2, list_keys=3_000)
OSD_BYTES = 12 << 30
FREE_GIB_MIN = 12


class ClusterBench(Bench):
    """The usual cases. What Ceph's daemons took of the processors is said beside what the server
    took: the machine is shared, and much of a write's work is theirs.
    """

    daemons: Callable[[], float]

    def record(
        self, case: str, connections: int, client: str, run: Callable[[], Outcome], **more: Any
    ) -> Row | None:
        each_us = 0.0

        def measured() -> Outcome:
            nonlocal each_us
            before = self.daemons()
            outcome = run()
            each_us = (self.daemons() - before) / max(outcome.operations, 1) * 1e6
            return outcome

        row = super().record(case, connections, client, measured, **more)
        if row:
            row.backing_cpu_s_per_1000 = round(each_us / 1000, 4)
            say(f"    Ceph's daemons: {each_us:.0f} µs each")
        return row


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP")
    parser.add_argument("--seconds", type=int, help=f"of each timed run (default {FULL.seconds})")
    parser.add_argument("--quick", action="store_true", help="shorter runs over fewer keys")
    parser.add_argument("--folder", type=Path, default=FULL.folder, help="where the OSDs lie")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file")
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    parser.epilog = f"cases: {', '.join(GROUPS)}"
    return parser.parse_args()


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    program = wrk.find()
    obstacles = [
        "" if program else "wrk, the client of this bench, is missing: apt-get install wrk",
        missing() and f"{missing()}: python -m tests.ceph.host installs it",
        unfit_disk(options.folder, FREE_GIB_MIN) or "",
    ]
    if found := next(filter(None, obstacles), ""):
        say(found)
        return 1
    plan = replace(
        QUICK if options.quick else FULL,
        groups=frozenset(options.cases),
        wrk=program or "",
        folder=options.folder,
    )
    plan = replace(plan, seconds=options.seconds or plan.seconds)
    about = "; ".join(filter(None, (machine(), busy())))
    say(about)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="bench-ceph-", dir=plan.folder) as name:
        cluster = CephCluster(Path(name) / "c", osd_bytes=OSD_BYTES)
        try:
            cluster.start()
            for system, binary in systems(cluster):
                measure(cluster, system, binary, plan, results)
        except CaseError as error:
            say(str(error))
            return 1
        finally:
            cluster.stop()
    return finish(results, options.output, about, strict=options.strict)


def measure(
    cluster: CephCluster, system: OnCluster, binary: str, plan: Plan, results: Results
) -> None:
    began = time.monotonic()
    prefix = f"bench-{system.name}-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=plan.folder) as folder,
        Server(system, binary, Path(folder)) as server,
    ):
        say(f"{system.name} {server.version}: {system.durability}")
        try:
            bench = ClusterBench(server, plan, results)
            bench.daemons = lambda: sum(map(cpu_seconds, cluster.pids()))
            bench.start()
            bench.run_groups()
        except CaseError as error:
            results.missed.append(Missed(system.name, "all", str(error)))
            say(f"  {error}")
    say(f"  {time.monotonic() - began:.0f} s\n")


def finish(results: Results, output: Path, about: str, *, strict: bool) -> int:
    found = judge(results)
    results.write(output, found)
    page = report.page(results, about, found)
    output.with_suffix(".md").write_text(page, encoding="utf-8")
    say(report.tables(results))
    say("\n" + report.verdicts(found))
    say(f"\nwritten: {output} {output.with_suffix('.md')}")
    return int(strict and any(verdict.held is False for verdict in found))


if __name__ == "__main__":
    sys.exit(main())
