"""The report that `objectstore status --store` shows, made of what was looked at."""

from __future__ import annotations

from tests.ansible.plugins import plugin

status = plugin("filter", "objectstore_status")

VMS = [{"name": "n0", "vcpu": 4}, {"name": "n1", "vcpu": 4}, {"name": "envoy-1", "vcpu": 2}]
NODES = [
    {"name": "n0", "ready": True, "schedulable": True, "version": "v1"},
    {"name": "n1", "ready": False, "schedulable": True, "version": "v1"},
]
CLUSTER = {
    "nodes": NODES,
    "pods": [
        {"name": "a", "namespace": "objectstore"},
        {"name": "b", "namespace": "kube-system"},
    ],
    "shards": [
        {"pod": "m-0", "held": {"shard-000": 5}},
        {"pod": "m-1", "held": {"shard-000": 0}},
    ],
}
CEPH = {"cluster": {"pools": {"x.log": {"objects": 1}}, "total_bytes": 10, "used_bytes": 4}}


def test_a_report_holds_machines_pods_shards_pools_and_room():
    report = status.cluster_status(CLUSTER, CEPH, [{"ok": True}], VMS)
    assert report["status"] == "ready"
    assert [one["state"] for one in report["machines"]] == [
        "ready",
        "not ready",
        "no node of the cluster",
    ]
    assert [one["name"] for one in report["pods"]] == ["a"]
    assert report["shards"] == [
        {"shard": "shard-000", "owners": ["m-0"], "epoch": 5, "standbys": ["m-1"]}
    ]
    assert report["pools"] == {"x.log": {"objects": 1}}
    assert report["capacity"] == {"total_bytes": 10, "used_bytes": 4}


def test_what_is_not_well_makes_it_degraded():
    report = status.cluster_status(CLUSTER, CEPH, [{"ok": True}, {"ok": False, "check": "x"}], VMS)
    assert (report["status"], report["degraded"]) == ("degraded", [{"ok": False, "check": "x"}])


def test_there_is_a_report_where_nothing_answers():
    report = status.cluster_status({"error": "no"}, {"cluster": {}}, [{"ok": False}], VMS)
    assert (report["pods"], report["shards"], report["pools"]) == ([], [], {})
