"""What our store on RADOS is held to beside radosgw on the same cluster, in the same run."""

from __future__ import annotations

from tests.bench.results import Results, Row, Verdict
from tests.bench.systems import OURS

from .systems import RGW

# Case, connections, and how many times radosgw's rate ours has to be.
GOALS = (
    ("PUT 4 KiB", 16, 5.0),
    ("GET 4 KiB", 16, 2.0),
    ("LIST full", 16, 3.0),
    ("PUT 64 MiB multipart", 4, 0.9),
    ("GET 64 MiB", 4, 0.9),
)


def judge(results: Results) -> list[Verdict]:
    """Every goal, in the order of the table."""
    return [verdict(results, *goal) for goal in GOALS]


def verdict(results: Results, case: str, connections: int, factor: float) -> Verdict:
    goal = f"{case} c{connections} at least {factor:g} × {RGW}"
    ours = results.find(OURS, case, connections)
    theirs = results.find(RGW, case, connections)
    if ours is None or theirs is None:
        return Verdict(goal, None, "not measured")
    ratio = ours.ops_per_s / theirs.ops_per_s
    detail = (
        f"{ratio:.2f} × ({ours.ops_per_s:,.1f}/s to {theirs.ops_per_s:,.1f}/s); "
        f"{_cpu(theirs) / _cpu(ours):.2f} × by processor time, Ceph's daemons included"
    )
    return Verdict(goal, ratio >= factor, detail)


def _cpu(row: Row) -> float:
    return row.cpu_s_per_1000 + row.backing_cpu_s_per_1000
