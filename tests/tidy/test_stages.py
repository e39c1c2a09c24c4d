"""`make test` leaves no test out, and the Makefile explains each of its targets."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from tests.run import STAGES
from tests.tidy.tree import ROOT, report, tracked_paths


def test_every_test_file_is_covered_by_a_stage():
    covered = tuple(f"{folder}/" for stage in STAGES for folder in stage.folders)
    findings = [
        path
        for path in tracked_paths()
        if PurePosixPath(path).match("test_*.py") and not path.startswith(covered)
    ]
    assert not findings, report(findings)


def test_every_stage_names_tests_that_exist():
    folders = {folder for stage in STAGES for folder in stage.folders}
    missing = sorted(folder for folder in folders if not (ROOT / folder).exists())
    assert not missing, report(missing)


def test_every_target_of_the_makefile_has_its_line_of_help():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z%-]*):(?! export)", text, re.MULTILINE))
    explained = set(re.findall(r"^([a-z][a-z%-]*):.*## \S", text, re.MULTILINE))
    assert targets == explained
    assert {"up", "down", "outputs", "serve", "test", "bench", "lint", "help"} <= explained
