"""The store of a deployment under load while it loses something: nothing acknowledged is lost or
stale, and nobody waits longer than the goal.

A selection of `make faults-cluster`, which tries every fault. OBJECTSTORE_TEST_SLACK multiplies the
goals where the machine has other work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster.description import read_endpoint, read_machines
from tests.faults.cluster.faults import BY_NAME
from tests.faults.cluster.machines import Machines
from tests.faults.cluster.table import row_of
from tests.faults.cluster.traffic import Traffic
from tests.faults.cluster.trial import try_fault

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(600)]

SLACK = float(os.environ.get("OBJECTSTORE_TEST_SLACK", "1"))


@pytest.fixture(scope="module")
def machines() -> Machines:
    inventory = os.environ.get("OBJECTSTORE_INVENTORY")
    if not inventory:
        pytest.skip("OBJECTSTORE_INVENTORY names no deployment")
    return read_machines(Path(inventory))


@pytest.fixture(scope="module")
def traffic(machines: Machines) -> Iterator[Traffic]:
    made = Traffic.over_new_buckets(read_endpoint(os.environ))
    yield made
    made.clean_up()


@pytest.mark.parametrize("name", ["pod-kill", "zookeeper-kill", "envoy-kill", "node-kill"])
def test_nothing_acknowledged_is_lost_and_nobody_waits_long(
    name: str, machines: Machines, traffic: Traffic
) -> None:
    trial = try_fault(BY_NAME[name], machines, traffic.again())
    print(row_of(trial))
    assert not trial.wrong, trial.wrong
    assert trial.acknowledged > 0
    assert trial.reads > 0
    assert trial.longest_s <= trial.goal_s * SLACK, trial
