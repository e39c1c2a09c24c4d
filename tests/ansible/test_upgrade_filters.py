"""What an upgrade does with each service, and how it tells."""

from __future__ import annotations

import os

import pytest
from ansible.errors import AnsibleFilterError

from tests.ansible.plugins import plugin

upgrade = plugin("filter", "objectstore_upgrade")

LISTING = {
    "version": "1.1",
    "artefacts": [
        {"name": "kube-apiserver", "version": "v1.34.5"},
        {"name": "etcd-image", "version": "3.6.5-0"},
        {"name": "ceph-packages", "version": "18.2.8"},
        {"name": "zookeeper", "version": "3.9.4"},
    ],
}


def node(name: str, kubernetes: dict, ceph: dict, missing: list[str]) -> dict:
    row: dict = upgrade.node_plan(name, kubernetes, ceph, missing, upgrade.targets(LISTING))
    return row


NODES = [
    node("default-0", {"version": "v1.34.4", "due": True}, {"node": {"version": "18.2.7"}}, [])
]


def found(**versions: str) -> list[dict]:
    return [
        {
            "name": name,
            "running": version,
            "pods": 3,
            "pods_ready": 3,
            "stateful": name == "metadata",
            "whole": True,
        }
        for name, version in versions.items()
    ]


def test_a_second_run_goes_on_where_the_first_one_stopped():
    now = found(front="1.1", iam="1.1", metadata="1.0")
    now[1]["whole"] = False
    rows = upgrade.plan(now, "1.1")
    assert [row["action"] for row in rows] == ["up to date", "upgrade", "upgrade"]


@pytest.mark.parametrize(
    ("running", "version", "action"),
    [
        ("1.9.0", "1.10.0", "upgrade"),
        ("1.10.0", "1.9.0", "downgrade"),
        ("1.0.0+src.aaa", "1.0.0+src.bbb", "upgrade"),
        ("1.1.0rc1", "1.1.0", "upgrade"),
        ("1.1.0", "1.1.0rc1", "downgrade"),
    ],
)
def test_releases_are_compared_as_versions(running: str, version: str, action: str):
    assert upgrade.plan(found(front=running), version)[0]["action"] == action


def test_what_is_no_version_is_refused():
    with pytest.raises(AnsibleFilterError, match="no version"):
        upgrade.plan(found(front="1.0"), "latest")


def test_pods_with_an_identity_are_renewed_one_after_the_other():
    front, metadata = upgrade.plan(found(front="1.0", metadata="1.0"), "1.1")
    assert upgrade.steps(front) == [0]
    assert upgrade.steps(metadata) == [1, 2, 0]


@pytest.mark.parametrize(
    ("running", "bundles", "said"),
    [
        ({"front": "1.0"}, ["1.0", "1.1"], "upgrade to 1.1"),
        ({"front": "1.1"}, ["1.0", "1.1"], "no newer release"),
        ({"front": "1.1", "iam": "1.0"}, ["1.1"], "upgrade to 1.1"),
        ({"front": "1.1+a", "iam": "1.1+b"}, ["1.1"], "finish the upgrade"),
    ],
)
def test_the_recommendation_fits(running: dict, bundles: list[str], said: str):
    rows = upgrade.plan(found(**running), "")
    assert said in upgrade.inventory_text(rows, bundles, [])[-1]


def test_the_recommendation_is_to_finish_an_upgrade_that_was_begun():
    notes = [{}, {"version": "1.1", "since": "noon"}]
    text = upgrade.inventory_text(upgrade.plan(found(front="1.0"), ""), ["1.0", "1.2"], [], notes)
    assert "finish the upgrade that was begun with -e version=1.1" in text[-1]


def test_a_service_that_was_cut_off_before_its_pods_were_ready_is_put_back():
    rows = upgrade.plan(found(front="1.0", iam="1.0", metadata="1.0"), "1.1")
    rows[1] |= {"whole": False}
    rows[2] |= {"whole": False, "pods_ready": 2}
    assert [row["name"] for row in upgrade.unready(rows)] == ["metadata"]


def test_the_report_says_what_moved_from_which_version_to_which():
    before = upgrade.plan(found(front="1.0", iam="1.1", metadata="1.0", atlas="1.0"), "1.1")
    after = found(front="1.1", iam="1.1", metadata="1.0", atlas="1.0")
    after[3]["pods_ready"] = 2
    word = "stopped at metadata"
    result = upgrade.outcome(before, after, NODES, "abc-oss", "1.1", word, "gate", "/f.json")
    states = {row["name"]: (row["from"], row["to"], row["state"]) for row in result["workloads"]}
    assert states == {
        "front": ("1.0", "1.1", "upgraded"),
        "iam": ("1.1", "1.1", "was up to date"),
        "metadata": ("1.0", "1.0", "as before"),
        "atlas": ("1.0", "1.0", "not healthy"),
    }
    text = upgrade.report_text(result)
    assert any("cause: gate" in line for line in text)
    assert any("default-0  Kubernetes v1.34.4 -> v1.34.5, Ceph 18.2.7" in line for line in text)


def test_what_stands_under_the_store_goes_to_the_versions_that_the_bundle_has():
    bundle = upgrade.targets(LISTING)
    platform = {"kubernetes": "v1.34.5", "etcd": "3.6.5-0"}
    assert bundle == platform | {"ceph": "18.2.8", "zookeeper": "3.9.4"}
    rows = upgrade.plan(found(front="1.1", zookeeper="3.9.3"), "1.1", bundle)
    assert [(row["target"], row["action"]) for row in rows] == [
        ("1.1", "up to date"),
        ("3.9.4", "upgrade"),
    ]
    with pytest.raises(AnsibleFilterError, match="holds no kube-apiserver"):
        upgrade.targets({"version": "1.1", "artefacts": []})


@pytest.mark.parametrize(
    ("changes", "missing", "action"),
    [
        ({}, [], "up to date"),
        ({"version": "v1.34.4"}, [], "upgrade"),
        ({"due": True}, [], "upgrade"),
        ({"outdated": ["osd.0"]}, [], "upgrade"),
        ({}, ["node-packages/less_1_amd64.deb"], "upgrade"),
        ({}, ["objectstore-image/index.json"], "up to date"),
    ],
)
def test_a_machine_is_upgraded_only_for_what_it_runs(changes: dict, missing: list, action: str):
    look = {"version": "v1.34.5", "due": False, "outdated": []} | changes
    ceph = {"node": {"version": "18.2.8", "outdated": look["outdated"]}}
    assert node("default-0", look, ceph, missing)["action"] == action


def test_a_machine_of_the_entry_has_packages_alone():
    row = node("envoy-1", {}, {}, ["node-packages/less_1_amd64.deb"])
    assert (row["kubernetes"], row["ceph"], row["action"]) == ("", "", "upgrade")
    assert upgrade.node_text(row) == "1 packages to install"


def test_a_store_that_serves_goes_to_another_version_only_by_an_upgrade():
    now = found(**{"object-controller": "1.0", "metadata": "1.0"})
    assert upgrade.ungated(now, "1.0") == []
    assert [row["action"] for row in upgrade.ungated(now, "1.1")] == ["upgrade", "upgrade"]
    assert [row["action"] for row in upgrade.ungated(now, "0.9")] == ["downgrade", "downgrade"]
    now[1]["pods_ready"] = 0
    assert upgrade.ungated(now, "1.1") == []


def test_a_live_run_keeps_its_lock_and_a_dead_one_loses_it():
    mine = upgrade.run_identity(None)
    assert mine["pid"] == os.getpid()
    assert not upgrade.run_is_dead(mine)
    assert upgrade.run_is_dead(mine | {"born": "another boot/1"})
    assert not upgrade.run_is_dead(mine | {"host": "elsewhere", "born": "x"})
    assert not upgrade.run_is_dead({})
    assert upgrade.run_is_alive(mine)
    assert not upgrade.run_is_alive(mine | {"born": "another boot/1"})
    assert not upgrade.run_is_alive(mine | {"host": "elsewhere"})
    assert not upgrade.run_is_alive({})
