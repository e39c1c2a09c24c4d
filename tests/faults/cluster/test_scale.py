"""`make up` with more machines, with fewer, and after one was lost, under load: no acknowledged
object is lost, and no client that retries as its SDK does sees a failure.

The deployment is the stack that OBJECTSTORE_STACK names, its inventory OBJECTSTORE_INVENTORY. Run
with `-s` it prints the times that docs/howto/scale.md tells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ansible.load import Load
from tests.ansible.playbook import ROOT
from tests.faults.cluster.description import read_machines
from tests.faults.cluster.machines import Machines, command

STACK = os.environ.get("OBJECTSTORE_STACK", "")
INVENTORY = os.environ.get("OBJECTSTORE_INVENTORY", "")
UP_S_MAX = 900
WELL_S_MAX = 300.0

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
        print(f"{numbers}: ", end="")
        return stack("up")

    yield up
    description.write_text(before)


def stack(action: str) -> str:
    """What `objectstore stack` prints, as `make` calls it."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "objectstore_app", "stack", action, "--stack", STACK],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'pulumi'}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UP_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{action} {time.monotonic() - began:.0f} s")
    return done.stdout


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
    assert not lost
    assert not clients.failures


def inventory() -> dict:
    return json.loads(Path(INVENTORY).expanduser().read_text())


def addresses_of(described: dict) -> dict[str, str]:
    return {name: one["ansible_host"] for name, one in described["_meta"]["hostvars"].items()}


def placement_groups(machines: Machines) -> dict[str, int]:
    """How many each node's OSD holds."""
    rows = json.loads(machines.ask("ceph", "osd", "df", "tree", "--format=json"))["nodes"]
    held = {row["id"]: row["pgs"] for row in rows if row["type"] == "osd"}
    hosts = [row for row in rows if row["type"] == "host"]
    return {host["name"]: sum(held[number] for number in host["children"]) for host in hosts}


def machines_now() -> Machines:
    return read_machines(Path(INVENTORY))


def test_a_node_and_an_envoy_join_take_their_share_and_leave(scale: Scale, load: Load):
    before = inventory()
    reserved = before["all"]["vars"]["objectstore_infrastructure_addresses"]
    store = before["all"]["vars"]["objectstore_name"]
    workers, envoys = len(before["default"]["hosts"]), len(before["envoy"]["hosts"])
    node, envoy = f"{store}-default-{workers}", f"{store}-envoy-{envoys + 1}"

    shown = scale(workers=workers + 1, envoys=envoys + 1)
    assert f"created   objectstore:index:Instance {node}" in shown
    assert f"created   objectstore:index:Instance {envoy}" in shown
    larger = addresses_of(inventory())
    assert larger.items() >= addresses_of(before).items()
    assert {larger[node], larger[envoy]} <= set(reserved)
    machines = machines_now()
    print(f"well after another {machines.until_well(WELL_S_MAX):.0f} s")
    print(f"placement groups: {placement_groups(machines)}")
    assert placement_groups(machines)[node] > 0
    assert node in {pod.node for pod in machines.pods("object-controller")}
    owned = machines.on(envoy, "ip", "-4", "-oneline", "address")
    clients = before["all"]["vars"]["objectstore_client_addresses"]
    assert [f" {address}/" in owned for address in clients] == [False, True, False, True]

    shown = scale(workers=workers, envoys=envoys)
    assert "Move data away" in shown
    for name in (node, envoy):
        assert f"deleted   objectstore:index:Instance {name}" in shown
    assert inventory() == before
    machines = machines_now()
    print(f"well after another {machines.until_well(WELL_S_MAX):.0f} s")
    assert sorted(placement_groups(machines)) == sorted(before["default"]["hosts"])
    nodes = machines.kubectl("get", "nodes", "--output=name").split()
    assert sorted(nodes) == sorted(f"node/{name}" for name in before["default"]["hosts"])


def test_a_node_that_is_gone_is_made_anew_and_gets_its_data_back(load: Load):
    before = inventory()
    node = before["default"]["hosts"][-1]
    had = placement_groups(machines_now())
    command("incus", "delete", "--force", node)
    stack("refresh")
    assert f"created   objectstore:index:Instance {node}" in stack("up")
    assert inventory() == before
    machines = machines_now()
    print(f"well after another {machines.until_well(WELL_S_MAX):.0f} s")
    assert placement_groups(machines) == had
