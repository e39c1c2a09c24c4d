"""What an operator does to a running cluster: certificates, etcd back to a snapshot, a node leaves;
what the operator is told of a node that is off.

The API is written to all the while. The tests need a deployment, named by OBJECTSTORE_INVENTORY.
"""

from __future__ import annotations

import io
import json
import re
import ssl
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ansible.playbook import play
from tests.faults.cluster.api import API_PORT, AWAY_S_MAX, Api, waited
from tests.faults.cluster.description import read_machines
from tests.faults.cluster.machines import command

LOST_S_MAX = 60.0
WELL_S_MAX = 240.0
SECRETS = (
    re.compile(rb"\bkey = (\S{20,})"),
    re.compile(rb"client-key-data: (\S{20,})"),
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(\S{20,})"),
)

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


@contextmanager
def switched_off(node: str, api: Api, folder: Path) -> Iterator[None]:
    """The node is off, and counts as lost; afterwards all is well again."""
    command("incus", "stop", "--force", node)
    try:
        waited(lambda: not api.ready()[node], LOST_S_MAX, f"the loss of {node}")
        yield
    finally:
        command("incus", "start", node)
        read_machines(folder / "inventory.json").until_well(WELL_S_MAX)


def secrets_of(inventory: dict, folder: Path) -> set[bytes]:
    """What must be in no archive: the administrator's keys, and every key in the store's folder."""
    variables = inventory["all"]["vars"]
    found = {variables[f"objectstore_root_{kind}_key"].encode() for kind in ("access", "secret")}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in {"", ".key", ".keyring", ".pem"}:
            for pattern in SECRETS:
                found |= set(pattern.findall(path.read_bytes()))
    return found


def contents(archive: Path) -> dict[str, dict[str, bytes]]:
    """Host → the files that it gave, out of an archive of diagnostics."""
    found = {}
    with tarfile.open(archive) as outer:
        for entry in outer.getmembers():
            if packed := outer.extractfile(entry):
                with tarfile.open(fileobj=io.BytesIO(packed.read())) as inner:
                    files = {one.name: inner.extractfile(one) for one in inner.getmembers()}
                    host = Path(entry.name).name.removesuffix(".tar.gz")
                    found[host] = {name: file.read() for name, file in files.items() if file}
    return found


# The first node is the one that playbooks ask when they can.
def test_a_node_that_is_off_is_explained_and_the_others_tell_all(
    api: Api, inventory: dict, folder: Path, tmp_path: Path
):
    node, *others = [*inventory["default"]["hosts"], *inventory["envoy"]["hosts"]]
    archive = tmp_path / "diagnostics.tar"
    with switched_off(node, api, folder):
        checked = play("healthcheck")
        looked = play("status")
        gathered = play("diagnostics", diagnostics_file=str(archive))
    print(checked.output)
    assert checked.code != 0
    assert looked.code == 0, looked.output
    status = json.loads((folder / "status.json").read_text())
    rows = {(one["node"], one["check"]): one for one in status["degraded"]}
    assert {(node, "reachable over SSH"), (node, "Kubernetes node")} <= rows.keys()
    assert not [check for _, check in rows if check.startswith(("S3 through", "shard-"))]
    assert all(one["next_step"] for one in rows.values())
    assert all(f"{check}" in checked.output for _, check in rows)
    assert status["metrics"]
    assert gathered.code == 0, gathered.output
    told = contents(archive)
    assert sorted(told) == sorted(others)
    assert all(files["journal.txt"] for files in told.values())
    assert node.encode() in told[inventory["default"]["hosts"][1]]["kubernetes/nodes.txt"]
    text = b"".join(content for files in told.values() for content in files.values())
    secrets = secrets_of(inventory, folder)
    assert len(secrets) > len(SECRETS)
    assert not [secret for secret in secrets if secret in text]
