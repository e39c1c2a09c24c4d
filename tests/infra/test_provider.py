"""The provider's protocol side: checks, diffs, previews, secrets, drift, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pulumi.provider.experimental import provider as sdk

from objectstore_infra import node_image, state_folder
from objectstore_infra.errors import ConflictError, SubstrateError
from objectstore_infra.provider import instance as instance_module
from objectstore_infra.provider.server import ObjectStoreProvider
from objectstore_infra.provider.values import UNKNOWN, Record, to_properties, to_record
from tests.infra.substrate import MemorySubstrate

T = TypeVar("T")
OWNER = "objectstore/test/abc"
HOST_KEY = "ssh-ed25519 AAAAhost"
NETWORK: Record = {
    "name": "os-abc",
    "owner": OWNER,
    "existing": False,
    "gateway": "10.0.0.1",
    "prefixLength": 24,
    "dhcpRange": "",
}
INSTANCE: Record = {
    "name": "abc-default-0",
    "owner": OWNER,
    "image": "image-1",
    "network": "os-abc",
    "address": "10.0.0.10",
    "prefixLength": 24,
    "gateway": "10.0.0.1",
    "resolver": "10.0.0.1",
    "authorizedKey": "ssh-ed25519 AAAA abc",
    "privateKey": "the private key",
    "vcpu": 4,
    "coresPerSocket": 2,
    "memoryMib": 8192,
    "containerHost": False,
    "running": True,
}
FILES: Record = {
    "store": "abc",
    "inventory": {"all": {"vars": {"objectstore_name": "abc"}}},
    "accessKey": "AK",
    "secretKey": "SK",
    "privateKey": "the private key",
    "hostKeys": {"10.0.0.10": HOST_KEY},
}


def run(call: Awaitable[T]) -> T:
    async def main() -> T:
        return await call

    return asyncio.run(main())


def urn(kind: str) -> str:
    parents = "objectstore:components:ObjectStore$"
    return f"urn:pulumi:test::objectstore::{parents}objectstore:index:{kind}::it"


class Bench:
    """A configured provider over a substrate in memory."""

    def __init__(self) -> None:
        self.world = MemorySubstrate()
        self.said: list[str] = []
        self.provider = ObjectStoreProvider(
            lambda _, line: self.said.append(line), lambda _socket, _pool: self.world
        )
        run(self.provider.configure(sdk.ConfigureRequest({}, {}, True, True)))

    def create(self, kind: str, inputs: Record, *, preview: bool = False) -> sdk.CreateResponse:
        request = sdk.CreateRequest(urn(kind), to_properties(inputs, frozenset()), 0, preview)
        return run(self.provider.create(request))

    def made(self, kind: str, inputs: Record) -> Record:
        return to_record(self.create(kind, inputs).properties)

    def diff(self, kind: str, state: Record, inputs: Record) -> sdk.DiffResponse:
        old, new = to_properties(state, frozenset()), to_properties(inputs, frozenset())
        return run(self.provider.diff(sdk.DiffRequest(urn(kind), "id", old, new, [])))

    def read(self, kind: str, resource_id: str, state: Record, inputs: Record) -> Record | None:
        old, new = to_properties(state, frozenset()), to_properties(inputs, frozenset())
        response = run(self.provider.read(sdk.ReadRequest(urn(kind), resource_id, old, new)))
        return to_record(response.properties) if response.resource_id else None

    def update(self, kind: str, resource_id: str, state: Record, inputs: Record) -> Record:
        old, new = to_properties(state, frozenset()), to_properties(inputs, frozenset())
        request = sdk.UpdateRequest(urn(kind), resource_id, old, new, 0, [], False)
        return to_record(run(self.provider.update(request)).properties)

    def failures(self, kind: str, inputs: Record) -> dict[str, str]:
        request = sdk.CheckRequest(urn(kind), {}, to_properties(inputs, frozenset()), b"")
        found = run(self.provider.check(request)).failures or []
        return {failure.property: failure.reason for failure in found}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(instance_module, "wait_for_ssh", lambda _address, _key: HOST_KEY)
    bench = Bench()
    bench.world.images["image-1"] = {OWNER}
    return bench


def test_check_names_missing_unheard_of_and_mistyped_inputs(bench: Bench) -> None:
    wrong: Record = {**NETWORK, "prefixLength": "24", "colour": "red"}
    del wrong["owner"]
    assert bench.failures("Network", wrong) == {
        "owner": "is missing",
        "prefixLength": "has the wrong type str",
        "colour": "no such input",
    }
    assert bench.failures("Network", {**NETWORK, "prefixLength": UNKNOWN}) == {}


def test_an_unheard_of_type_is_refused_with_the_known_ones(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"Volume is none of this provider's types: .*Network"):
        bench.create("Volume", {})


def test_preview_makes_nothing_and_says_what_is_not_known_yet(bench: Bench) -> None:
    shown = bench.create("SshKey", {"store": "abc"}, preview=True)
    assert not shown.resource_id
    assert to_record(shown.properties) == {
        "store": "abc",
        "publicKey": UNKNOWN,
        "privateKey": UNKNOWN,
    }
    bench.create("Network", NETWORK, preview=True)
    assert bench.world.networks == {}


@pytest.mark.parametrize(
    ("kind", "inputs", "secrets"),
    [
        ("SshKey", {"store": "abc"}, {"privateKey"}),
        ("Credentials", {"store": "abc"}, {"accessKey", "secretKey"}),
        ("Instance", INSTANCE, {"privateKey"}),
        ("OperatorFiles", FILES, {"accessKey", "secretKey", "privateKey"}),
    ],
)
def test_secrets_are_marked(bench: Bench, kind: str, inputs: Record, secrets: set[str]) -> None:
    properties = bench.create(kind, inputs).properties
    assert {name for name, value in properties.items() if value.is_secret} == secrets


def test_keys_are_random(bench: Bench) -> None:
    one, other = (bench.made("Credentials", {"store": "abc"}) for _ in range(2))
    assert one["secretKey"] != other["secretKey"]
    assert len(str(one["accessKey"])) == 20
    assert len(str(one["secretKey"])) == 40


def test_an_unchanged_resource_has_no_diff(bench: Bench) -> None:
    state = bench.made("Instance", INSTANCE)
    assert bench.diff("Instance", state, INSTANCE).changes is False


@pytest.mark.parametrize(
    ("changes", "replaces"),
    [
        ({"vcpu": 6, "memoryMib": 1024}, []),
        ({"address": "10.0.0.11"}, ["address"]),
        ({"name": "other", "vcpu": 2}, ["name"]),
    ],
)
def test_size_changes_in_place_and_identity_replaces(
    bench: Bench, changes: Record, replaces: list[str]
) -> None:
    diff = bench.diff("Instance", bench.made("Instance", INSTANCE), {**INSTANCE, **changes})
    assert sorted(diff.diffs) == sorted(changes)
    assert diff.replaces == replaces
    assert diff.delete_before_replace is bool(replaces)
    assert sorted(diff.detailed_diff) == sorted(changes)


def test_a_new_image_leaves_machines_alone(bench: Bench) -> None:
    state = bench.made("Instance", INSTANCE)
    assert bench.diff("Instance", state, {**INSTANCE, "image": "image-2"}).changes is False


def test_a_changed_entry_of_a_map_is_named_by_its_path(bench: Bench) -> None:
    inputs: Record = {"network": "n", "owner": OWNER, "purposes": {"10.0.0.2": "dns"}}
    wanted: Record = {**inputs, "purposes": {"10.0.0.2": "client", "10.0.0.3": "dns"}}
    detailed = bench.diff("AddressReservation", inputs, wanted).detailed_diff
    assert {path: diff.kind.name for path, diff in detailed.items()} == {
        'purposes["10.0.0.2"]': "UPDATE",
        'purposes["10.0.0.3"]': "ADD",
    }


def test_size_changed_by_hand_is_seen_and_put_right(bench: Bench) -> None:
    state = bench.made("Instance", INSTANCE)
    world = bench.world.instances
    world["abc-default-0"] = replace(world["abc-default-0"], vcpu=1, running=False)
    seen = bench.read("Instance", "abc-default-0", state, INSTANCE)
    assert seen is not None
    assert sorted(bench.diff("Instance", seen, INSTANCE).diffs) == ["running", "vcpu"]
    bench.update("Instance", "abc-default-0", seen, INSTANCE)
    assert (world["abc-default-0"].vcpu, world["abc-default-0"].running) == (4, True)


def test_a_deleted_machine_and_somebody_elses_are_gone(bench: Bench) -> None:
    state = bench.made("Instance", INSTANCE)
    world = bench.world.instances
    world["abc-default-0"] = replace(world["abc-default-0"], owner="objectstore/other/abc")
    assert bench.read("Instance", "abc-default-0", state, INSTANCE) is None
    del world["abc-default-0"]
    assert bench.read("Instance", "abc-default-0", state, INSTANCE) is None


def test_what_an_interrupted_create_left_is_found_and_replaced(bench: Bench) -> None:
    bench.create("Instance", INSTANCE)
    world = bench.world.instances
    world["abc-default-0"] = replace(world["abc-default-0"], complete=False)
    seen = bench.read("Instance", "", {}, INSTANCE)
    assert seen is not None
    assert seen["ready"] is False
    assert bench.diff("Instance", seen, INSTANCE).replaces == ["ready"]


def test_a_finished_machine_unknown_to_the_state_is_adopted_whole(bench: Bench) -> None:
    bench.create("Instance", INSTANCE)
    seen = bench.read("Instance", "", {}, INSTANCE)
    assert seen is not None
    assert seen["hostKey"] == HOST_KEY
    assert bench.diff("Instance", seen, INSTANCE).changes is False


def test_a_machine_that_never_answers_is_cleaned_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_address: str, _key: str) -> str:
        raise SubstrateError("10.0.0.10 does not answer over SSH")

    monkeypatch.setattr(instance_module, "wait_for_ssh", silent)
    with pytest.raises(SubstrateError, match="does not answer"):
        bench.create("Instance", INSTANCE)
    assert bench.world.instances == {}


def test_a_new_bundles_image_is_taken_up_in_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_image, "alias", lambda version: f"image-{version[0]}")
    monkeypatch.setattr(node_image, "ensure_built", lambda _version, _say: ())
    old: Record = {"bundle": "1.0", "owner": OWNER}
    new: Record = {"bundle": "2.0", "owner": OWNER}
    state = bench.made("NodeImage", old)
    assert bench.diff("NodeImage", state, new).replaces == []
    bench.update("NodeImage", OWNER, state, new)
    assert bench.world.images == {"image-2": {OWNER}}
    state = bench.made("NodeImage", new)
    bench.update("NodeImage", OWNER, state, {"bundle": "2.1", "owner": OWNER})
    assert bench.world.images == {"image-2": {OWNER}}


def test_an_edited_ledger_is_seen_and_put_right(bench: Bench) -> None:
    bench.create("Network", NETWORK)
    inputs: Record = {
        "network": "os-abc",
        "owner": OWNER,
        "purposes": {"10.0.0.2": "dns", "10.0.0.3": "client"},
    }
    state = bench.made("AddressReservation", inputs)
    del bench.world.ledger["os-abc"]["10.0.0.3"]
    seen = bench.read("AddressReservation", "id", state, inputs)
    assert seen is not None
    assert seen["purposes"] == {"10.0.0.2": "dns"}
    bench.update("AddressReservation", "id", seen, inputs)
    assert bench.world.ledger["os-abc"] == {
        "10.0.0.2": f"{OWNER} dns",
        "10.0.0.3": f"{OWNER} client",
    }


def test_an_existing_network_must_be_as_described_and_survives(bench: Bench) -> None:
    existing: Record = {**NETWORK, "existing": True}
    with pytest.raises(ConflictError, match="there is no network os-abc"):
        bench.create("Network", existing)
    bench.create("Network", NETWORK)
    with pytest.raises(ConflictError, match=r"network.gateway is 10.0.0.1, not 10.0.0.9"):
        bench.create("Network", {**existing, "gateway": "10.0.0.9"})
    state = bench.made("Network", existing)
    request = sdk.DeleteRequest(
        urn("Network"), "os-abc", to_properties(state, frozenset()), timeout=0
    )
    run(bench.provider.delete(request))
    assert "os-abc" in bench.world.networks


def test_operator_files_hold_the_keys_for_their_owner_alone(bench: Bench) -> None:
    bench.create("OperatorFiles", FILES)
    folder = state_folder.store_folder("abc")
    inventory = json.loads((folder / state_folder.INVENTORY).read_text(encoding="utf-8"))
    variables: dict[str, Any] = inventory["all"]["vars"]
    assert variables["objectstore_root_secret_key"] == "SK"
    assert (folder / state_folder.KNOWN_HOSTS).read_text() == f"10.0.0.10 {HOST_KEY}\n"
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_edited_operator_files_are_seen_and_written_anew(bench: Bench) -> None:
    state = bench.made("OperatorFiles", FILES)
    file = state_folder.store_folder("abc") / state_folder.INVENTORY
    good = file.read_text(encoding="utf-8")
    file.write_text("{}", encoding="utf-8")
    seen = bench.read("OperatorFiles", "abc", state, FILES)
    assert seen is not None
    assert bench.diff("OperatorFiles", seen, FILES).diffs == ["inventory"]
    bench.update("OperatorFiles", "abc", seen, FILES)
    assert file.read_text(encoding="utf-8") == good
    file.unlink()
    assert bench.read("OperatorFiles", "abc", state, FILES) is None
