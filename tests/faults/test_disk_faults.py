"""Every workload under every fault of a disk: lost, torn and reordered writes, failed flushes, no
room, short writes, failed reads (docs/durability.md names the cells).

`OBJECTSTORE_TEST_SEED` repeats a run, `OBJECTSTORE_FAULT_POINTS` sets how many points in time each
cell tries.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.faults.disk.cells import CREATION, EIO_READ, FAULTS, NOTHING_TO_READ, Cells
from tests.faults.disk.workloads import WORKLOADS

POINTS = int(os.environ.get("OBJECTSTORE_FAULT_POINTS", "3"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))

CELLS = [
    (workload, fault)
    for workload in WORKLOADS
    for fault in FAULTS
    if fault != EIO_READ or workload not in NOTHING_TO_READ
]


@pytest.fixture(scope="module")
def cells() -> Iterator[Cells]:
    made = Cells()
    yield made
    made.close()


@pytest.mark.timeout(60 + 10 * POINTS)
@pytest.mark.parametrize(("workload", "fault"), CELLS)
def test_acknowledged_is_there_and_nothing_is_torn(cells: Cells, workload: str, fault: str) -> None:
    try:
        assert cells.run(workload, fault, SEED, POINTS) > 0
    except BaseException as error:
        error.add_note(f"OBJECTSTORE_TEST_SEED={SEED} OBJECTSTORE_FAULT_POINTS={POINTS}")
        raise


def test_store_that_was_killed_in_its_creation_is_durable_once_it_serves(cells: Cells) -> None:
    assert cells.run("buckets", CREATION, SEED, POINTS) > 0
