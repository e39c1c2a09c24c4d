"""Ceph under the store: members, pools, and what each service's key opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import pytest

pytestmark = pytest.mark.promise("S8", "D9")

POOLS = {
    "log": {"type": "replicated", "size": 3, "min_size": 2},
    "open": {"type": "replicated", "size": 3, "min_size": 2},
    "cold": {"type": "erasure", "size": 3, "min_size": 2},
}
# Service → the pools it writes.
WRITES = {
    "metadata": {"log"},
    "object-controller": {"open"},
    "atlas": {"log", "open", "cold"},
}
TYPES = {1: "replicated", 3: "erasure"}
DISK_OF_THIS_MACHINE = {"MON_DISK_LOW", "MON_DISK_CRIT"}


@pytest.fixture(scope="session")
def ceph(store, shells):
    """What the monitors tell the administrator on the first default node, each thing asked once."""
    shell = shells[store.hosts("default")[0]]

    @cache
    def ask(words: str):
        return json.loads(shell.check_output(f"ceph --format json {words}"))

    return ask


@pytest.fixture(scope="session")
def pools(ceph):
    return {row["pool_name"]: row for row in ceph("osd dump")["pools"]}


def test_three_monitors_are_in_quorum(store, ceph):
    assert ceph("status")["quorum_names"] == store.hosts("default")[:3]


def test_a_second_manager_waits(store, ceph):
    managers = ceph("mgr dump")
    names = {managers["active_name"], *(one["name"] for one in managers["standbys"])}
    assert managers["available"]
    assert names == set(store.hosts("default")[:2])


def test_every_default_node_has_an_osd_that_is_up_and_in(store, ceph):
    rows = ceph("osd tree")["nodes"]
    hosts = {row["name"]: row["children"] for row in rows if row["type"] == "host"}
    assert sorted(hosts) == sorted(store.hosts("default"))
    assert all(len(numbers) == 1 for numbers in hosts.values())
    states = {row["osd"]: (row["up"], row["in"]) for row in ceph("osd dump")["osds"]}
    assert set(states.values()) == {(1, 1)}


def test_ceph_is_well(ceph):
    checks = ceph("status")["health"]["checks"]
    said = {name for name, check in checks.items() if not check["muted"]}
    assert said - DISK_OF_THIS_MACHINE == set()


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_keeps_what_it_promises(store, pools, name):
    row = pools[f"{store.name}.{name}"]
    found = {"type": TYPES[row["type"]], "size": row["size"], "min_size": row["min_size"]}
    assert found == POOLS[name]
    assert list(row["application_metadata"]) == ["objectstore"]


def test_cold_objects_are_cut_in_two_and_lie_on_three_nodes(store, ceph, pools):
    profiles = ceph("osd dump")["erasure_code_profiles"]
    found = profiles[pools[f"{store.name}.cold"]["erasure_code_profile"]]
    assert (found["k"], found["m"], found["crush-failure-domain"]) == ("2", "1", "host")


@pytest.fixture
def key_file(store, shells, request) -> Iterator[str]:
    """A service's keyring on the first default node, while the test lasts."""
    shell = shells[store.hosts("default")[0]]
    keyring = (store.folder / "ceph" / f"{store.name}.client.{request.param}.keyring").read_text()
    file = shell.check_output("umask 077; mktemp --tmpdir=/run")
    shell.check_output("printf %%s %s > %s", keyring, file)
    yield f"-n client.{request.param} -k {file}"
    shell.check_output(f"rm {file}")


@pytest.mark.parametrize(
    ("key_file", "writes"), WRITES.items(), indirect=["key_file"], ids=list(WRITES)
)
def test_a_services_key_writes_its_pools_and_no_others(store, shells, key_file, writes):
    shell = shells[store.hosts("default")[0]]
    for name in POOLS:
        pool = f"{store.name}.{name}"
        done = shell.run(f"rados {key_file} -p {pool} create validation")
        if done.rc == 0:
            shell.run(f"rados -p {pool} rm validation")
        assert (done.rc == 0) == (name in writes), (pool, done.stderr)
        assert done.rc == 0 or "Operation not permitted" in done.stderr


@pytest.mark.parametrize("key_file", WRITES, indirect=True)
def test_a_services_key_changes_nothing_of_the_cluster(store, shells, key_file):
    shell = shells[store.hosts("default")[0]]
    assert "EACCES" in shell.run(f"ceph {key_file} osd set noout").stderr


def test_the_administrators_key_is_roots_alone(shells, default_node):
    file = shells[default_node].file("/etc/ceph/ceph.client.admin.keyring")
    assert (file.user, file.mode) == ("root", 0o600)
