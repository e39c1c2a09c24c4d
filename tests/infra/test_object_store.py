"""The program under Pulumi's mocks: what is made of a specification, and what comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi.runtime import mocks, stack

from objectstore_infra import spec
from objectstore_infra.components.object_store import ObjectStore
from objectstore_infra.workloads import keys

MADE_UP = {
    "objectstore:index:SshKey": {"publicKey": "ssh-ed25519 AAAA abc", "privateKey": "private"},
    "objectstore:index:Credentials": {"accessKey": "AK", "secretKey": "SK"},
    "objectstore:index:Instance": {"hostKey": "ssh-ed25519 AAAAhost", "ready": True},
    "objectstore:index:MasterKey": {"key": "a2V5"},
}


KEPT = {path: f"what {path} holds" for path in keys.collected_files("abc")}


class Recorder(mocks.Mocks):
    """Notes what is registered and makes outputs up."""

    def __init__(self) -> None:
        self.made: dict[str, list[dict[str, Any]]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.made.setdefault(args.typ, []).append(args.inputs)
        files = {"files": KEPT} if args.inputs.get("collects") else {}
        return args.name, {**args.inputs, **MADE_UP.get(args.typ, {}), **files}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program invokes {args.token}")


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """Run the program once."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    recorder = Recorder()
    mocks.set_mocks(recorder, project="objectstore", stack="test", preview=False)
    store = spec.parse({"name": "abc", "domain": "example.test"}, default_version="0.1.0")
    loop.run_until_complete(stack.run_pulumi_func(lambda: ObjectStore.deploy(store)))
    yield recorder
    loop.close()
    asyncio.set_event_loop(None)


def runs(recorder: Recorder) -> dict[str, dict[str, Any]]:
    """The configuration runs by the first playbook of each."""
    return {run["playbooks"][0]: run for run in recorder.made["objectstore:index:ConfigurationRun"]}


def only(recorder: Recorder, kind: str) -> dict[str, Any]:
    (inputs,) = recorder.made[f"objectstore:index:{kind}"]
    return inputs


def test_everything_carries_the_owner(recorder: Recorder) -> None:
    kinds = ("Network", "AddressReservation", "NodeImage", "Instance")
    for kind in kinds:
        for inputs in recorder.made[f"objectstore:index:{kind}"]:
            assert inputs["owner"] == "objectstore/test/abc"


def test_four_machines_of_the_prescribed_names_and_sizes(recorder: Recorder) -> None:
    machines = {m["name"]: m for m in recorder.made["objectstore:index:Instance"]}
    assert {
        name: (m["vcpu"], m["coresPerSocket"], m["memoryMib"]) for name, m in machines.items()
    } == {
        "abc-default-0": (4, 2, 8192),
        "abc-default-1": (4, 2, 8192),
        "abc-default-2": (4, 2, 8192),
        "abc-envoy-1": (2, 2, 4096),
    }


def test_only_default_nodes_may_run_containers_themselves(recorder: Recorder) -> None:
    machines = recorder.made["objectstore:index:Instance"]
    assert {m["name"] for m in machines if m["containerHost"]} == {
        "abc-default-0",
        "abc-default-1",
        "abc-default-2",
    }


def test_all_addresses_are_reserved_with_their_purpose(recorder: Recorder) -> None:
    purposes = list(only(recorder, "AddressReservation")["purposes"].values())
    assert {purpose: purposes.count(purpose) for purpose in purposes} == {
        "infrastructure": 18,
        "dns": 1,
        "management": 1,
        "client": 4,
    }


def test_machines_take_infrastructure_addresses(recorder: Recorder) -> None:
    purposes = only(recorder, "AddressReservation")["purposes"]
    for machine in recorder.made["objectstore:index:Instance"]:
        assert purposes[machine["address"]] == "infrastructure"


def test_ansible_gets_the_contract(recorder: Recorder) -> None:
    inventory = only(recorder, "OperatorFiles")["inventory"]
    assert inventory["default"]["hosts"] == ["abc-default-0", "abc-default-1", "abc-default-2"]
    assert inventory["envoy"]["hosts"] == ["abc-envoy-1"]
    variables = inventory["all"]["vars"]
    assert variables["objectstore_name"] == "abc"
    assert variables["objectstore_domain"] == "example.test"
    assert len(variables["objectstore_client_addresses"]) == 4
    assert variables["objectstore_pod_network"] == "10.244.0.0/16"
    assert variables["objectstore_service_network"] == "10.96.0.0/16"
    assert variables["objectstore_cluster_dns"] == "10.96.0.10"
    fsid = "ee8195c1-35f4-555f-a9e0-0e57778d8335"
    assert variables["objectstore_ceph_fsid"] == fsid
    host = inventory["_meta"]["hostvars"]["abc-envoy-1"]
    assert host["objectstore_vm"]["vcpu"] == 2
    assert host["ansible_host"] == "10.77.0.13"
    assert "SK" not in json.dumps(inventory)


def test_a_machine_made_anew_causes_a_configuration_run(recorder: Recorder) -> None:
    for run in runs(recorder).values():
        assert run["machines"]["abc-default-0"] == "ssh-ed25519 AAAAhost"
        assert len(run["machines"]) == 4


def test_machines_of_a_larger_store_leave_before_the_platform_is_configured(
    recorder: Recorder,
) -> None:
    platform, entry = runs(recorder)["platform.yml"], runs(recorder)["entry.yml"]
    assert len(platform["others"]) == 11 + 3
    assert platform["others"]["abc-default-3"] == "10.77.0.14"
    assert platform["others"]["abc-envoy-2"] == "10.77.0.27"
    assert entry["others"] == {}


def test_the_entry_is_opened_while_the_pods_come_and_all_is_checked_in_the_end(
    recorder: Recorder,
) -> None:
    assert {name: run["playbooks"] for name, run in runs(recorder).items()} == {
        "platform.yml": ["platform.yml"],
        "entry.yml": ["entry.yml"],
        "ready.yml": ["ready.yml"],
    }
    kinds = list(recorder.made)
    assert kinds.index("kubernetes:apps/v1:StatefulSet") > kinds.index("objectstore:index:Instance")
    assert "kubeconfig" in runs(recorder)["platform.yml"]["collects"]
