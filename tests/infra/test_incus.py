"""The substrate and the provider's handlers on a real Incus, with a store of one machine.

It has a network of its own and leaves nothing; where no Incus answers it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from objectstore_infra import bundle, node_image
from objectstore_infra.errors import ConflictError, InfraError
from objectstore_infra.provider.handler import Context
from objectstore_infra.provider.identity import SshKey
from objectstore_infra.provider.image import NodeImage
from objectstore_infra.provider.instance import Instance
from objectstore_infra.provider.network import Network
from objectstore_infra.provider.values import Record
from objectstore_infra.substrates.incus import KEY_COMPLETE, IncusSubstrate
from objectstore_infra.substrates.incus_client import IncusClient

SUBNET = f"10.75.{os.getpid() % 256}"
STORE = f"t{os.getpid()}"
OWNER = f"objectstore/tests/{STORE}"
NETWORK: Record = {
    "name": f"os-{STORE}",
    "owner": OWNER,
    "existing": False,
    "gateway": f"{SUBNET}.1",
    "prefixLength": 24,
    "dhcpRange": f"{SUBNET}.200-{SUBNET}.239",
}
BRIDGE = str(NETWORK["name"])
MACHINE = f"{STORE}-default-0"


def obstacle() -> str:
    try:
        pools = IncusClient().get("/storage-pools").metadata
    except InfraError as error:
        return str(error).splitlines()[0]
    return "" if pools else "Incus has no storage pool: make host"


pytestmark = [
    pytest.mark.incus,
    pytest.mark.timeout(900),  # the first machine waits for its image to be made
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "Incus answers"),
]


def bundled() -> str:
    """The newest bundle that node images are made of."""
    for version in reversed(bundle.available()):
        try:
            node_image.alias(version)
        except InfraError:
            continue
        return version
    pytest.skip("there is no bundle: make bundle")


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(IncusSubstrate(), print)


@pytest.fixture(scope="module")
def network(context: Context) -> Iterator[None]:
    handler = Network()
    handler.create(context, NETWORK)
    yield
    handler.delete(context, BRIDGE, NETWORK)
    assert handler.read(context, BRIDGE, NETWORK) is None


@pytest.fixture(scope="module")
def machine(context: Context, network: None) -> Iterator[Record]:
    """One machine's inputs, the machine running; deleted at the end."""
    _, key = SshKey().create(context, {"store": STORE})
    image: Record = {"bundle": bundled(), "owner": OWNER}
    _, made = NodeImage().create(context, image)
    image |= made
    inputs: Record = {
        "name": MACHINE,
        "owner": OWNER,
        "image": image["alias"],
        "network": BRIDGE,
        "address": f"{SUBNET}.10",
        "prefixLength": 24,
        "gateway": f"{SUBNET}.1",
        "resolver": f"{SUBNET}.1",
        "authorizedKey": key["publicKey"],
        "privateKey": key["privateKey"],
        "vcpu": 2,
        "coresPerSocket": 2,
        "memoryMib": 512,
        "containerHost": False,
        "running": True,
    }
    handler = Instance()
    try:
        _, outputs = handler.create(context, inputs)
        yield inputs | outputs
    finally:
        handler.delete(context, MACHINE, inputs)
        NodeImage().delete(context, OWNER, image)
    assert handler.read(context, MACHINE, inputs) is None
    handler.delete(context, MACHINE, inputs)  # what is gone is deleted already


def configuration() -> dict[str, str]:
    metadata = IncusClient().get(f"/instances/{MACHINE}").metadata
    return dict(metadata["config"])


def changed(context: Context, machine: Record) -> list[str]:
    """Inputs that differ from the machine as it is."""
    seen = Instance().read(context, MACHINE, machine)
    assert seen is not None
    return sorted(Instance().changed(seen.state, machine))


def test_a_made_machine_answers_and_is_as_described(context: Context, machine: Record) -> None:
    assert str(machine["hostKey"]).startswith("ssh-ed25519 ")
    assert changed(context, machine) == []
    assert configuration()["limits.cpu"] == "2"


def test_a_repeated_create_adopts_the_machine(context: Context, machine: Record) -> None:
    before = configuration()["volatile.uuid"]
    inputs = {name: machine[name] for name in Instance.inputs}
    _, outputs = Instance().create(context, inputs)
    assert outputs["hostKey"] == machine["hostKey"]
    assert configuration()["volatile.uuid"] == before


def test_somebody_elses_machine_is_refused_and_left_alone(
    context: Context, machine: Record
) -> None:
    before = configuration()["volatile.uuid"]
    inputs = {name: machine[name] for name in Instance.inputs} | {"owner": "objectstore/x/y"}
    with pytest.raises(ConflictError, match=f"belongs to {OWNER}, not to objectstore/x/y"):
        Instance().create(context, inputs)
    with pytest.raises(ConflictError):
        Instance().delete(context, MACHINE, inputs)
    assert configuration()["volatile.uuid"] == before


def test_a_finished_machine_with_other_keys_is_not_overwritten(
    context: Context, machine: Record
) -> None:
    _, other = SshKey().create(context, {"store": STORE})
    inputs = {name: machine[name] for name in Instance.inputs}
    with pytest.raises(ConflictError, match="its keys are not ours"):
        Instance().create(context, inputs | {"authorizedKey": other["publicKey"]})


def test_drift_made_by_hand_is_seen_and_put_right(context: Context, machine: Record) -> None:
    subprocess.run(["incus", "config", "set", MACHINE, "limits.cpu=1"], check=True)
    subprocess.run(["incus", "stop", "--force", MACHINE], check=True)
    assert changed(context, machine) == ["running", "vcpu"]
    Instance().update(context, MACHINE, machine, machine)
    assert changed(context, machine) == []


def test_size_changes_in_place(context: Context, machine: Record) -> None:
    before = configuration()["volatile.last_state.power"], configuration()["volatile.uuid"]
    Instance().update(context, MACHINE, machine, machine | {"vcpu": 1, "memoryMib": 640})
    after = configuration()
    assert (after["limits.cpu"], after["limits.memory"]) == ("1", "640MiB")
    assert (after["volatile.last_state.power"], after["volatile.uuid"]) == before
    Instance().update(context, MACHINE, machine, machine)


def test_a_half_made_machine_is_made_anew(context: Context, machine: Record) -> None:
    subprocess.run(["incus", "config", "unset", MACHINE, KEY_COMPLETE], check=True)
    assert changed(context, machine) == ["ready"]
    before = configuration()["volatile.uuid"]
    inputs = {name: machine[name] for name in Instance.inputs}
    Instance().create(context, inputs)
    assert configuration()["volatile.uuid"] != before
    assert changed(context, machine) == []


def test_two_stores_cannot_take_the_same_address(context: Context, network: None) -> None:
    substrate = context.substrate
    substrate.reserve(BRIDGE, OWNER, {f"{SUBNET}.20": "client", f"{SUBNET}.21": "dns"})
    with pytest.raises(ConflictError, match=rf"{SUBNET}.21 \(reserved by {OWNER} dns\)"):
        substrate.reserve(
            BRIDGE, "objectstore/x/y", {f"{SUBNET}.21": "dns", f"{SUBNET}.22": "client"}
        )
    assert set(substrate.reservations(BRIDGE)) == {f"{SUBNET}.20", f"{SUBNET}.21"}
    substrate.release(BRIDGE, OWNER)
    assert substrate.reservations(BRIDGE) == {}


def test_an_address_inside_the_dhcp_pool_cannot_be_reserved(
    context: Context, network: None
) -> None:
    with pytest.raises(ConflictError, match=rf"{SUBNET}.205 \(inside the DHCP pool"):
        context.substrate.reserve(BRIDGE, OWNER, {f"{SUBNET}.205": "client"})


def test_reservations_made_at_the_same_time_all_stand(context: Context, network: None) -> None:
    owners = [f"objectstore/tests/{STORE}-{number}" for number in range(4)]
    threads = [
        threading.Thread(
            target=IncusSubstrate().reserve, args=(BRIDGE, owner, {f"{SUBNET}.{30 + n}": "client"})
        )
        for n, owner in enumerate(owners)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert context.substrate.reservations(BRIDGE) == {
        f"{SUBNET}.{30 + n}": f"{owner} client" for n, owner in enumerate(owners)
    }
    for owner in owners:
        context.substrate.release(BRIDGE, owner)


def test_a_subnet_in_use_is_refused(context: Context, network: None) -> None:
    other = NETWORK | {"name": f"ox-{STORE}", "gateway": f"{SUBNET}.129", "prefixLength": 25}
    with pytest.raises(ConflictError, match=f"overlaps with {SUBNET}.1/24 .* {BRIDGE}"):
        Network().create(context, other)


def test_a_network_changed_by_hand_is_seen_and_put_right(context: Context, network: None) -> None:
    range_key = f"ipv4.dhcp.ranges={SUBNET}.220-{SUBNET}.230"
    subprocess.run(["incus", "network", "set", BRIDGE, range_key], check=True)
    seen = Network().read(context, BRIDGE, NETWORK)
    assert seen is not None
    assert sorted(Network().changed(seen.state, NETWORK)) == ["dhcpRange"]
    Network().update(context, BRIDGE, NETWORK, NETWORK)
    seen = Network().read(context, BRIDGE, NETWORK)
    assert seen is not None
    assert Network().changed(seen.state, NETWORK) == {}


def test_an_existing_network_is_used_and_left_as_it_is(context: Context, network: None) -> None:
    before = IncusClient().get(f"/networks/{BRIDGE}").metadata["config"]
    shared = NETWORK | {"existing": True, "owner": "objectstore/x/y"}
    Network().create(context, shared)
    context.substrate.reserve(BRIDGE, "objectstore/x/y", {f"{SUBNET}.50": "client"})
    context.substrate.release(BRIDGE, "objectstore/x/y")
    Network().delete(context, BRIDGE, shared)
    assert IncusClient().get(f"/networks/{BRIDGE}").metadata["config"] == before


def test_the_image_stays_while_another_store_holds_it(context: Context, machine: Record) -> None:
    other: Record = {"bundle": bundled(), "owner": "objectstore/tests/other"}
    _, made = NodeImage().create(context, other)
    other |= made
    NodeImage().delete(context, "objectstore/tests/other", other)
    assert NodeImage().read(context, "", other) is not None
    listed = json.loads(
        subprocess.run(
            ["incus", "image", "list", "--format", "json"], check=True, capture_output=True
        ).stdout
    )
    holders = [
        key
        for image in listed
        if any(alias["name"] == made["alias"] for alias in image["aliases"])
        for key in image["properties"]
        if key.startswith("objectstore.holder.")
    ]
    assert f"objectstore.holder.{OWNER}" in holders
    assert "objectstore.holder.objectstore/tests/other" not in holders
