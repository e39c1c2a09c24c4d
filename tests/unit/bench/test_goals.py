"""The verdicts: each goal is judged against the best peer of the run, and says so."""

from __future__ import annotations

import pytest

from tests.bench import report
from tests.bench.goals import judge
from tests.bench.results import Missed, Results, Row
from tests.bench.systems import OURS
from tests.bench.upkeep import middle_pair


def row(system: str, case: str, connections: int, **figures: float) -> Row:
    return Row(system, "1", "none", case, connections, **figures)


def verdict(results: Results, start: str, part: str = ""):
    found = [one for one in judge(results) if one.goal.startswith(start) and part in one.goal]
    assert len(found) == 1, [one.goal for one in judge(results)]
    return found[0]


def put(ours: float, *peers: float) -> Results:
    rows = [row(OURS, "PUT 4 KiB", 16, ops_per_s=ours, p99_ms=2.0)]
    rows += [
        row(f"peer{number}", "PUT 4 KiB", 16, ops_per_s=rate, p99_ms=number + 1)
        for number, rate in enumerate(peers)
    ]
    return Results(rows)


@pytest.mark.parametrize(("ours", "held"), [(300.0, True), (200.0, True), (199.0, False)])
def test_rate_is_compared_with_the_best_peer(ours, held):
    found = verdict(put(ours, 100, 200), "PUT 4 KiB c16 at least")
    assert found.held is held
    assert "peer1" in found.detail


def test_p99_is_compared_with_the_lowest_of_any_peer():
    found = verdict(put(300, 100, 200), "PUT 4 KiB c16 p99")
    assert found.held is False
    assert "peer0" in found.detail


def test_goal_without_a_peer_or_without_us_is_not_judged():
    assert verdict(put(300), "PUT 4 KiB c16 at least").held is None
    results = put(300, 100)
    del results.rows[0]
    assert verdict(results, "PUT 4 KiB c16 at least").held is None


def test_lists_are_held_against_garage_and_five_times_minio():
    rows = [row(OURS, "LIST full", 16, ops_per_s=600)]
    rows += [row("garage", "LIST full", 16, ops_per_s=500)]
    rows += [row("minio", "LIST full", 16, ops_per_s=130)]
    results = Results(rows)
    assert verdict(results, "LIST full c16 at least garage").held is True
    assert verdict(results, "LIST full c16 at least 5 × minio").held is False


def test_memory_is_the_highest_of_all_loaded_cases_counted_both_ways():
    rows = [row(OURS, "PUT 4 KiB", 16, rss_mib=150, pss_mib=90)]
    assert verdict(Results(rows), "all processes", "RSS").held is True
    rows.append(row(OURS, "GET 64 MiB", 4, rss_mib=201, pss_mib=100))
    found = verdict(Results(rows), "all processes", "RSS")
    assert found.held is False
    assert "GET 64 MiB c4" in found.detail
    assert verdict(Results(rows), "all processes", "PSS").held is True


def test_start_is_held_against_a_second():
    results = Results([row(OURS, "START fresh", 1, p50_ms=999), row(OURS, "START again", 1)])
    results.rows[1].p50_ms = 1001
    assert verdict(results, "START fresh").held is True
    assert verdict(results, "START again").held is False


@pytest.mark.parametrize(("largest", "held"), [(1.2, True), (1.21, False), (0.5, True)])
def test_growth_compares_the_largest_bucket_with_the_smallest(largest, held):
    rows = []
    for objects, p50 in ((1_000_000, largest), (10_000, 1.0), (100_000, 9.0)):
        rows.append(row(OURS, "GROWTH GET", 16, p50_ms=p50))
        rows[-1].objects, rows[-1].variant = objects, f"{objects} objects"
    assert verdict(Results(rows), "GROWTH GET").held is held


def test_largest_object_is_held_to_the_bound_of_memory():
    results = Results([row(OURS, "BOUND PUT", 1, rss_mib=199, pss_mib=90)])
    results.rows[0].variant = "5,120 MiB"
    assert verdict(results, "PUT of one object of 5,120 MiB").held is True
    results.rows[0].rss_mib = 201
    assert verdict(results, "PUT of one object of 5,120 MiB").held is False
    assert verdict(results, "GET of one large object").held is None


@pytest.mark.parametrize(("at_work", "held"), [(2.4, True), (2.5, False)])
def test_atlas_at_work_may_cost_a_fifth_of_p99(at_work, held):
    results = Results([row(OURS, "PUT 4 KiB", 16, p99_ms=value) for value in (2.0, at_work)])
    results.rows[0].variant, results.rows[1].variant = "Atlas at rest", "Atlas at work"
    assert verdict(results, "PUT 4 KiB p99 with Atlas").held is held
    assert verdict(results, "GET 4 KiB p99 with Atlas").held is None


def test_atlas_is_judged_by_the_pair_of_the_median_ratio():
    pairs = [
        tuple(row(OURS, "GET 4 KiB", 16, p99_ms=value) for value in values)
        for values in ((16.2, 3.2), (3.6, 4.1), (20.0, 19.0), (3.0, 4.0), (4.4, 4.0))
    ]
    assert middle_pair(pairs) == pairs[2]
    assert middle_pair(pairs[:2]) == pairs[0]


def test_variants_of_our_store_are_not_compared_with_peers():
    results = put(300, 100)
    results.rows[0].variant = "AES-256"
    assert verdict(results, "PUT 4 KiB c16 at least").held is None
    assert "PUT 4 KiB, AES-256" in report.tables(results)


def test_tables_hold_every_system_case_and_reason():
    results = put(300, 100, 200)
    results.rows.append(row(OURS, "START fresh", 1, p50_ms=500))
    results.missed.append(Missed("garage", "all", "not installed"))
    text = report.tables(results)
    for part in ("peer0", "peer1", "1.50", "500 ms", "garage all: not installed"):
        assert part in text
    for one, cpu in zip(results.rows, (0.2, 0.9, 0.5), strict=False):
        one.cpu_s_per_1000 = cpu
    page = report.page(results, "here", judge(results))
    assert "| PUT 4 KiB | 16 | 300 | 100 | 200 | 1.50 | 2.50 |" in page
    assert report.verdicts(judge(results)).splitlines()[-1].endswith("not measured")
