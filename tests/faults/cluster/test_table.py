"""The fault table: what trials are kept, and that the page's rows are faults that can be tried."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.faults.cluster.faults import BY_NAME
from tests.faults.cluster.table import DOCS, table_of
from tests.faults.cluster.trial import Trial, keep_trials, read_trials

ROOT = Path(__file__).resolve().parents[3]
TRIAL = Trial(
    fault="pod-kill",
    about="a metadata pod is killed",
    chosen="metadata-0 on node-1",
    goal_s=2.0,
    waited_s={"PUT": 1.25, "GET": 0.2},
    returned_s={"PUT": 1.8},
    calls=100,
    failed={"503": 3},
    application_calls=10,
    application_failed=0,
    application_longest_s=1.5,
    well_after_s=9.0,
    acknowledged=50,
    reads=40,
    at="2026-01-01T00:00:00Z",
    load=1.2,
)


def test_the_last_trial_of_each_fault_is_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "kept" / "faults.json", replace(TRIAL, fault="node-kill")
    keep_trials(path, [TRIAL, other])
    again = replace(TRIAL, acknowledged=7)
    keep_trials(path, [again])
    assert read_trials(path) == {"pod-kill": again, "node-kill": other}


def test_a_wait_over_the_goal_is_missed_whenever_it_was() -> None:
    assert not TRIAL.missed
    assert replace(TRIAL, waited_s={"LIST": 2.1}).missed
    assert replace(TRIAL, returned_s={"GET": 2.1}).missed
    assert not replace(TRIAL, goal_s=0.0, returned_s={"GET": 20.0}).missed


def test_a_row_tells_all_that_clients_noticed() -> None:
    row = table_of([TRIAL]).splitlines()[-1]
    assert row.split(" | ")[1:-1] == [
        *("2", "1.2", "0.2", "–", "–", "1.8", "3 of 100"),
        *("0 of 10 failed, longest 1.5", "50 kept"),
    ]
    assert "**wrong**" in table_of([replace(TRIAL, wrong="lost")])


def test_the_pages_rows_are_faults() -> None:
    rows = re.findall(r"^\| `([\w-]+)` .*\|$", (ROOT / DOCS).read_text(), re.MULTILINE)
    known = {f"| `{name}` {fault.about} |" for name, fault in BY_NAME.items()}
    table = (ROOT / DOCS).read_text().split("<!-- table")[1].split("<!-- end")[0]
    told = [" ".join(line.split(" | ")[0].split()) + " |" for line in table.splitlines()[3:]]
    assert set(told) <= known
    assert rows
