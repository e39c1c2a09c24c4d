"""The node that holds the management address is switched off: the API is asked all the while.

Needs a deployment on Incus, named by OBJECTSTORE_INVENTORY. Run with `-s` it prints the times that
docs/howto/kubernetes.md tells.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.faults.cluster.api import AWAY_S_MAX, Api, waited

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(600)]

LOST_S_MAX = 60.0
BACK_S_MAX = 180.0


def incus(*argv: str) -> str:
    return subprocess.run(["incus", *argv], capture_output=True, text=True, check=True).stdout


def test_the_api_outlives_the_node_that_holds_its_address(inventory: dict, api: Api):
    holder = next(
        host
        for host in inventory["default"]["hosts"]
        if f" {api.address}/" in incus("exec", host, "--", "ip", "-4", "-oneline", "address")
    )
    incus("stop", "--force", holder)
    try:
        lost_s = waited(lambda: not api.ready()[holder], LOST_S_MAX, f"the loss of {holder}")
    finally:
        incus("start", holder)
    back_s = waited(lambda: all(api.ready().values()), BACK_S_MAX, f"{holder}'s return")
    print(f"API away {api.longest_s():.1f} s, node lost after {lost_s:.1f} s, ready {back_s:.1f} s")
    assert api.longest_s() <= AWAY_S_MAX
