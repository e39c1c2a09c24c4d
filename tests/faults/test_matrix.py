"""The fault matrix of docs/durability.md is what the tests are: each cell names one that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.faults.disk.cells import FAULTS
from tests.faults.disk.workloads import WORKLOADS
from tests.faults.test_disk_faults import CELLS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "durability.md").read_text()
NOTHING = "–"


def grid() -> list[list[str]]:
    """The cells of the workload × fault table, the heading first."""
    lines = TEXT.split("| workload |", 1)[1].split("\n\n", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_every_cell_of_the_grid_is_a_test_and_every_test_a_cell():
    heading, *rows = grid()
    assert heading == list(FAULTS)
    assert len(rows) == len(WORKLOADS)
    named = set()
    for _, *cells in rows:
        assert len(cells) == len(FAULTS)
        for fault, cell in zip(FAULTS, cells, strict=True):
            if cell != NOTHING:
                assert cell.endswith(f"-{fault}`")
                named.add(cell.strip("`"))
    assert named == {f"{workload}-{fault}" for workload, fault in CELLS}


def test_every_fault_is_explained():
    explained = set(re.findall(r"^\| `([\w-]+)` \|", TEXT, re.MULTILINE))
    assert explained == set(FAULTS)


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)", TEXT)
    assert len(named) > 15
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{path} has no {name}"
