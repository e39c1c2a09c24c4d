"""What the bench computes: percentiles, what wrk printed, medians of rounds, costs of processes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.bench import growth, peers, processes, recorder, wrk
from tests.bench.outcome import CaseError, Outcome, corrected, median, percentile
from tests.bench.results import Results, Row, Verdict, middle, read

PRINTED = (
    "Running 5s test @ http://127.0.0.1:1/\n"
    'RESULT {"requests": 1000, "microseconds": 2000000, "bytes": 5000, "p50_us": 1500, '
    '"p99_us": 22000, "prepared_s": 0.25, "status": 0, "connect": 0, "read": 0, "write": 0, '
    '"timeout": 0}\n'
)


def row(**fields: object) -> Row:
    given = {"system": "s", "version": "1", "durability": "none", "case": "PUT", "connections": 1}
    return Row(**(given | fields))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.51, 6.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_percentile_is_the_nearest_rank(share, expected):
    assert percentile([float(value) for value in range(1, 11)], share) == expected


def test_percentile_of_one_value_and_of_none():
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) == 0.0


def test_correction_adds_what_a_slow_answer_kept_from_being_sent():
    assert corrected([5.0, 1.0, 1.0], 1.0) == [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert corrected([1.9, 1.0], 1.0) == [1.0, 1.9]
    assert corrected([3.5], 1.0) == [1.5, 2.5, 3.5]
    assert corrected([], 1.0) == []


def test_median_sorts_and_takes_a_value_that_was_measured():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.0


def test_outcome_of_nothing_or_of_failures_is_no_result():
    good = Outcome(1, 1.0, 0, 1.0, 1.0, 0.0)
    assert good.check("case") is good
    with pytest.raises(CaseError, match="nothing"):
        Outcome(0, 1.0, 0, 0.0, 0.0, 0.0).check("case")
    with pytest.raises(CaseError, match="503 SlowDown"):
        Outcome(9, 1.0, 0, 1.0, 1.0, 0.0, failures={"503 SlowDown": 1}).check("case")


def test_result_of_wrk_is_read_and_preparation_is_not_the_clients_cost():
    outcome = wrk.read_result(PRINTED, client_cpu_s=1.0)
    assert (outcome.operations, outcome.seconds, outcome.read_bytes) == (1000, 2.0, 5000)
    assert (outcome.p50_ms, outcome.p99_ms) == (1.5, 22.0)
    assert outcome.client_cpu_s == 0.75
    assert outcome.failures == {}


def test_errors_that_wrk_counted_are_failures():
    outcome = wrk.read_result(PRINTED.replace('"status": 0', '"status": 3'), client_cpu_s=1.0)
    assert outcome.failures == {"status": 3}


@pytest.mark.parametrize("printed", ["", PRINTED + PRINTED, "unable to connect\n"])
def test_wrk_without_one_result_is_an_error(printed):
    with pytest.raises(CaseError, match="no result"):
        wrk.read_result(printed, client_cpu_s=1.0)


def test_middle_round_is_kept_for_each_case_and_variant():
    rounds = [
        row(case="GET", variant=variant, p50_ms=value, ops_per_s=1 / value)
        for value in (3.0, 1.0, 2.0)
        for variant in ("small", "large")
    ]
    kept = middle(rounds, lambda one: one.p50_ms)
    assert [(one.variant, one.p50_ms, one.ops_per_s) for one in kept] == [
        ("small", 2.0, 0.5),
        ("large", 2.0, 0.5),
    ]


def test_keys_of_a_growing_bucket_are_all_different_and_scattered():
    keys = [growth.key_of(number) for number in range(5000)]
    assert len(set(keys)) == 5000
    assert keys != sorted(keys)


def test_rows_survive_their_file(tmp_path):
    results = Results([row(ops_per_s=1.5, ttfb_ms=None), row(case="GET", objects=3)])
    path = tmp_path / "new" / "latest.json"
    results.write(path, [Verdict("faster", False, "0.9 ×")])
    assert read(path).rows == results.rows
    (goal,) = json.loads(path.read_text())["goals"]
    assert goal == {"goal": "faster", "held": False, "detail": "0.9 ×"}


def test_module_version_is_read_from_a_go_binary():
    content = (
        b"\x00\xff path\texample.org/x\nmod\texample.org/x\tv0.0.0-2026-abc\th1:=\ndep\ty\tv9\n"
    )
    assert peers.go_module_version(content) == "v0.0.0-2026-abc"
    assert peers.go_module_version(b"nothing of the kind") == "unknown"


def test_peer_is_installed_at_its_pinned_version(tmp_path):
    assert peers.VERSITY.command(tmp_path)[-1].endswith("/versitygw@v1.8.0")
    command = peers.GARAGE.command(tmp_path)
    assert command[command.index("--version") + 1] == "2.5.0"
    assert command[command.index("--root") + 1] == str(tmp_path / "garage")


def test_peer_that_is_not_there_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert peers.obtain(peers.MINIO, tmp_path, install=False)[0] is None
    binary, reason = peers.obtain(peers.MINIO, tmp_path, install=True)
    assert binary is None
    assert "`go`" in reason


def test_machine_is_said_in_a_line_and_load_is_warned_of(monkeypatch):
    assert f"{os.cpu_count()} processors" in processes.machine()
    assert "\n" not in processes.machine()
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 9.0, 9.0))
    assert processes.busy() is None
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    assert "99.0" in processes.busy()


def test_full_disks_are_no_place_for_data(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "MEMORY_FILE_SYSTEMS", ())
    assert processes.unfit_disk(tmp_path, 0) is None
    assert "free" in processes.unfit_disk(tmp_path, 10**9)


def test_memory_is_no_place_for_data():
    assert "memory" in processes.unfit_disk(Path("/dev/shm"), 0)


def test_costs_are_those_of_the_whole_tree():
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert {os.getpid(), child.pid} <= set(processes.tree(os.getpid()))
        assert processes.cpu_seconds(os.getpid()) > 0
        alone, together = processes.memory(child.pid), processes.memory(os.getpid())
        assert 0 < alone.pss <= alone.rss < together.rss
    finally:
        child.kill()
        child.wait()
    assert processes.memory(child.pid) == processes.Memory(0, 0)


def test_what_the_host_took_away_is_told(monkeypatch):
    ticks = iter([(1000, 40), (1200, 90)])
    monkeypatch.setattr(processes, "machine_ticks", lambda: next(ticks))
    with processes.Watch(os.getpid()) as watch:
        pass
    assert watch.stolen_percent == 25
    row = Row("ours", "1", "", "GET", 1, stolen_percent=watch.stolen_percent)
    assert "25% of the processors stolen" in recorder.stolen(row)
    row.stolen_percent = 1.0
    assert recorder.stolen(row) == ""


def test_the_machine_counts_what_is_stolen():
    ticks, stolen = processes.machine_ticks()
    assert 0 <= stolen < ticks
