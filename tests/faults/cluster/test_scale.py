"""`make up` with more machines, then with fewer, under load: no acknowledged object is lost, and no
client that retries as its SDK does sees a failure.

The deployment is the stack that OBJECTSTORE_STACK names, its inventory OBJECTSTORE_INVENTORY. An
envoy joins and leaves each time; a node only where OBJECTSTORE_TEST_SCALE=1: that takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ansible.load import Load
from tests.ansible.playbook import ROOT

STACK = os.environ.get("OBJECTSTORE_STACK", "")
INVENTORY = os.environ.get("OBJECTSTORE_INVENTORY", "")
WHOLE = os.environ.get("OBJECTSTORE_TEST_SCALE") == "1"
UP_S_MAX = 900

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.timeout(3 * UP_S_MAX),
    pytest.mark.skipif(
        not (STACK and INVENTORY), reason="OBJECTSTORE_STACK, OBJECTSTORE_INVENTORY name none"
    ),
]

Scale = Callable[..., str]


@pytest.fixture
def scale() -> Iterator[Scale]:
    """Brings the stack to other numbers of machines; afterwards it is as it was described."""
    description = ROOT / "pulumi" / f"Pulumi.{STACK}.yaml"
    before = description.read_text()

    def up(**numbers: int) -> str:
        lines = "".join(f"  objectstore:{what}: {count}\n" for what, count in numbers.items())
        description.write_text(before.rstrip("\n") + "\n" + lines)
        done = subprocess.run(
            [sys.executable, "-m", "objectstore_app", "stack", "up", "--stack", STACK],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'pulumi'}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield up
    description.write_text(before)


@pytest.fixture
def load() -> Iterator[Load]:
    """Clients of the last address, which a second envoy owns; at the end all is read back."""
    described = inventory()["all"]["vars"]
    clients = Load(
        f"http://{described['objectstore_client_addresses'][-1]}:7200",
        described["objectstore_root_access_key"],
        described["objectstore_root_secret_key"],
        bucket=f"scale-{uuid.uuid4().hex[:8]}",
    )
    with clients:
        yield clients
    print(f"{clients.calls} calls, the longest {clients.longest_s:.1f} s")
    lost = clients.lost()
    clients.clean_up()
    assert clients.calls
    assert not clients.failures
    assert not lost


def inventory() -> dict:
    return json.loads(Path(INVENTORY).expanduser().read_text())


def test_an_envoy_joins_takes_its_share_of_the_addresses_and_leaves(scale: Scale, load: Load):
    name = f"{inventory()['all']['vars']['objectstore_name']}-envoy-2"
    assert f"created   objectstore:index:Instance {name}" in scale(envoys=2)
    owned = subprocess.run(
        ["incus", "exec", name, "--", "ip", "-4", "-oneline", "address"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    addresses = inventory()["all"]["vars"]["objectstore_client_addresses"]
    assert [f" {address}/" in owned for address in addresses] == [False, True, False, True]
    shown = scale(envoys=1)
    assert f"leaving: {name}" in shown
    assert f"deleted   objectstore:index:Instance {name}" in shown
    assert inventory()["envoy"]["hosts"] == [name.replace("-2", "-1")]


@pytest.mark.skipif(not WHOLE, reason="takes minutes: OBJECTSTORE_TEST_SCALE=1")
def test_a_node_joins_holds_data_and_leaves(scale: Scale, load: Load):
    workers = len(inventory()["default"]["hosts"])
    name = f"{inventory()['all']['vars']['objectstore_name']}-default-{workers}"
    assert f"created   objectstore:index:Instance {name}" in scale(workers=workers + 1)
    shown = scale(workers=workers)
    assert "placement groups left" in shown
    assert f"deleted   objectstore:index:Instance {name}" in shown
    assert name not in inventory()["default"]["hosts"]
