"""What `make bench-cluster` concludes from a run."""

from __future__ import annotations

from tests.bench.cluster.goals import GOALS, judge
from tests.bench.cluster.systems import RGW
from tests.bench.results import Results, Row
from tests.bench.systems import OURS


def row(system: str, rate: float, *, case: str = "PUT 4 KiB", cpu: float = 1.0) -> Row:
    return Row(
        system, "1", "", case, 16, rate, cpu_s_per_1000=cpu, backing_cpu_s_per_1000=2.0 * cpu
    )


def test_a_goal_is_held_from_its_factor_on():
    for rate, held in ((499.0, False), (500.0, True)):
        assert judge(Results([row(OURS, rate), row(RGW, 100.0)]))[0].held is held


def test_the_processor_time_of_cephs_daemons_counts():
    found = judge(Results([row(OURS, 500.0, cpu=1.0), row(RGW, 100.0, cpu=4.0)]))[0]
    assert "4.00 × by processor time" in found.detail


def test_what_one_of_them_did_not_run_is_not_judged():
    found = judge(Results([row(OURS, 500.0)]))
    assert [verdict.held for verdict in found] == [None] * len(GOALS)
