"""What an operator does to a running cluster: certificates, etcd back to a snapshot, a node leaves.

The API is written to all the while. The tests need a deployment, named by OBJECTSTORE_INVENTORY.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.playbook import play
from tests.faults.cluster.api import API_PORT, AWAY_S_MAX, Api

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(900)]

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def noted(api: Api) -> Iterator[Api]:
    """Two names in Kubernetes that a test may use, gone before and afterwards."""
    yield api
    for name in names(api):
        api.ask("DELETE", f"{MAPS}/{name}")


def names(api: Api) -> set[str]:
    found = {item["metadata"]["name"] for item in api.ask("GET", MAPS)["items"]}
    return found & {"before", "after"}


def note(api: Api, name: str) -> None:
    api.ask("POST", MAPS, {"metadata": {"name": name}})


def test_a_restored_snapshot_takes_kubernetes_back(noted: Api, folder: Path, inventory: dict):
    note(noted, "before")
    taken = play("etcd_snapshot")
    assert taken.code == 0, taken.output
    snapshot = max((folder / "etcd").glob("*.db"))
    assert snapshot.stat().st_mode & 0o077 == 0
    note(noted, "after")
    store = inventory["all"]["vars"]["objectstore_name"]
    restored = play("etcd_restore", snapshot=str(snapshot), restore_confirmed=store)
    assert restored.code == 0, restored.output
    snapshot.unlink()
    assert names(noted) == {"before"}
    assert all(noted.ready().values())


def test_nothing_is_restored_unconfirmed(noted: Api):
    refused = play("etcd_restore", snapshot="/nonexistent.db")
    assert refused.code != 0
    assert "restore_confirmed=" in refused.output
    assert all(noted.ready().values())


def test_renewed_certificates_are_served_and_the_api_goes_on(api: Api, inventory: dict):
    addresses = [
        inventory["_meta"]["hostvars"][host]["ansible_host"]
        for host in inventory["default"]["hosts"][:3]
    ]
    before = [ssl.get_server_certificate((address, API_PORT)) for address in addresses]
    renewed = play("certificates", certificates_renew_days="400")
    assert renewed.code == 0, renewed.output
    after = [ssl.get_server_certificate((address, API_PORT)) for address in addresses]
    assert not set(before) & set(after)
    assert api.longest_s() <= AWAY_S_MAX
    again = play("certificates")
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert not [line for line in again.output.splitlines() if line.startswith("changed:")]


def test_a_node_leaves_and_joins_again(api: Api, inventory: dict):
    node = inventory["default"]["hosts"][1]
    left = play("node_left", node=node)
    try:
        assert left.code == 0, left.output
        assert node not in api.ready()
    finally:
        back = play("stages/kubernetes")
    assert back.code == 0, back.output
    assert api.ready()[node]
    assert api.longest_s() <= AWAY_S_MAX
