"""What the gate concludes of the cluster under the store, and how its facts are read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest

from tests.ansible.plugins import plugin

gate = plugin("filter", "objectstore_gate")
looked = plugin("modules", "cluster_gate")

NODES = ["n0", "n1", "n2"]
MAP = {
    "directory": {"pod": "iam-a", "epoch": 4, "address": "10.0.0.9:7202"},
    "shard-000": {"pod": "metadata-0", "epoch": 6, "address": "10.0.0.1:7201"},
}


def cluster() -> dict:
    """A cluster that is whole."""
    return {
        "error": "",
        "nodes": [
            {"name": name, "ready": True, "reason": "", "schedulable": True, "version": "v1"}
            for name in NODES
        ],
        "workloads": [
            {
                "namespace": "objectstore",
                "name": name,
                "wanted": 3,
                "ready": 3,
                "updated": 3,
                "held_back": 0,
            }
            for name in ("metadata", "zookeeper")
        ],
        "pods": [
            {"name": "metadata-0", "node": "n0", "ready": True, "done": False, "reason": ""},
            {"name": "a-job", "node": "n0", "ready": False, "done": True, "reason": "Succeeded"},
        ],
        "shards": [
            {"pod": pod, "error": "", "held": held, "map": MAP, "data_shards": 1}
            for pod, held in (
                ("metadata-0", {"shard-000": 6}),
                ("metadata-1", {"shard-000": 0}),
                ("iam-a", {"directory": 4}),
            )
        ],
    }


def reds(findings: list[dict]) -> list[str]:
    assert all(bool(one["next_step"]) is not one["ok"] for one in findings)
    return [one["check"] for one in findings if not one["ok"]]


def test_a_whole_cluster_has_no_red_row():
    assert reds(gate.cluster_findings(cluster(), NODES)) == []


def spoil(path: str, value: object) -> Callable[[dict], None]:
    def change(facts: dict) -> None:
        *parents, last = path.split("/")
        for step in parents:
            facts = facts[int(step)] if isinstance(facts, list) else facts[step]
        facts[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (spoil("nodes/1/ready", False), "Kubernetes node"),
        (spoil("nodes/1/schedulable", False), "Kubernetes node"),
        (spoil("nodes/1/name", "another"), "Kubernetes node"),
        (spoil("workloads/0/ready", 2), "pods"),
        (spoil("workloads/0/updated", 2), "pods"),
        (spoil("pods/0/ready", False), "pods"),
        (spoil("shards/1/error", "no answer"), "pods of shards"),
        (spoil("shards", []), "pods of shards"),
        (spoil("shards/0/held/shard-000", 0), "shard-000"),
        (spoil("shards/1/held/shard-000", 5), "shard-000"),
        (spoil("shards/2/held/directory", 3), "directory"),
    ],
)
def test_each_thing_that_is_not_whole_is_named_with_its_next_step(change, check: str):
    facts = cluster()
    change(facts)
    assert reds(gate.cluster_findings(facts, NODES)) == [check]


def test_an_owner_that_one_pod_has_not_heard_of_is_red():
    facts = cluster()
    facts["shards"][1]["map"] = MAP | {"shard-000": {"pod": "metadata-1", "epoch": 5}}
    (row,) = [one for one in gate.cluster_findings(facts, NODES) if not one["ok"]]
    assert row["found"] == "metadata-0 (epoch 6); the map also says metadata-1 (epoch 5)"


@pytest.mark.parametrize(("pod", "shard"), [(0, "shard-000"), (2, "directory")])
def test_a_shard_that_no_pod_has_any_more_is_red(pod: int, shard: str):
    facts = cluster()
    del facts["shards"][pod]["held"][shard]
    facts["shards"][1]["held"] = {}
    for one in facts["shards"]:
        one["map"] = {name: entry for name, entry in MAP.items() if name != shard}
    rows = gate.cluster_findings(facts, NODES)
    (row,) = [one for one in rows if one["check"] == shard]
    assert (row["ok"], row["found"]) == (False, "owned by nobody")


def test_pods_of_a_node_that_is_away_are_counted_and_others_named():
    facts = cluster()
    facts["nodes"][0]["ready"] = False
    facts["pods"][0] |= {"ready": False, "reason": "ending"}
    facts["pods"].append(
        {"name": "iam-a", "node": "", "ready": False, "done": False, "reason": "Pending"}
    )
    (row,) = [one for one in gate.cluster_findings(facts, NODES) if one["check"] == "pods"]
    assert row["found"] == "1 on n0, which is not ready; iam-a on no node: Pending"
    assert row["next_step"].startswith("bring n0 back first")


def test_while_a_pod_does_not_answer_the_shards_of_the_others_are_judged():
    facts = cluster()
    facts["shards"][0] |= {"error": "its node n0 is not ready", "held": {}, "map": {}}
    rows = {one["check"]: one for one in gate.cluster_findings(facts, NODES)}
    assert rows["pods of shards"]["found"] == "metadata-0: its node n0 is not ready"
    assert rows["directory"]["ok"]
    assert not rows["shard-000"]["ok"]
    assert rows["shard-000"]["found"] == "owned by nobody; the map also says metadata-0 (epoch 6)"


def test_a_pod_of_a_node_that_is_away_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def kubectl(*argv: str, **_: object) -> str:
        asked.append(argv[2])
        return json.dumps({"held": {}, "map": {"shards": {}}, "data_shards": 3})

    monkeypatch.setattr(looked, "kubectl", kubectl)
    facts = looked.shards_facts("objectstore", {"metadata-0": "n0", "metadata-1": "n1"}, {"n1"})
    assert asked == ["metadata-1"]
    assert [one["error"] for one in facts] == ["its node n0 is not ready", ""]


def test_a_server_of_zookeeper_that_is_missing_is_a_row_of_its_own():
    facts = cluster()
    facts["workloads"][1]["ready"] = 2
    assert reds(gate.cluster_findings(facts, NODES)) == ["pods", "ZooKeeper"]


UNREACHED = {"error": "refused", "nodes": [], "workloads": [], "pods": [], "shards": []}


@pytest.mark.parametrize("facts", [UNREACHED, {"msg": "x", "failed": True}, {}])
def test_an_api_that_does_not_answer_is_the_only_row(facts: dict):
    assert reds(gate.cluster_findings(facts, NODES)) == ["Kubernetes API"]


def member(name: str, **changes: object) -> dict:
    return {"name": name, "healthy": True, "learner": False} | changes


def test_etcd_needs_every_node_as_a_member_that_votes():
    whole = [member(name) for name in NODES]
    assert reds(gate.etcd_findings({"members": whole}, NODES)) == []
    for members in (
        whole[:2],
        [*whole[:2], member("n2", healthy=False)],
        [*whole[:2], member("n2", learner=True)],
        [*whole, member("gone")],
    ):
        assert reds(gate.etcd_findings({"members": members}, NODES)) == ["etcd"]
    assert reds(gate.etcd_findings({"failed": True, "msg": "no"}, NODES)) == ["etcd"]


def ceph(**changes: object) -> dict:
    well = {
        "monitors": 3,
        "quorum": ["a", "b", "c"],
        "osds": {"0": {"up": True, "in": True}},
        "placement_groups": {"active+clean": 64},
        "clean": True,
        "flags": ["sortbitwise"],
        "used_share": 0.1,
        "nearfull_share": 0.85,
    }
    return {"cluster": well | changes, "error": ""}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"quorum": ["a", "b"]}, "Ceph monitors"),
        ({"osds": {"0": {"up": False, "in": True}}}, "Ceph OSDs"),
        ({"clean": False, "placement_groups": {"peering": 3}}, "placement groups"),
        ({"flags": ["noout"]}, "Ceph maintenance"),
        ({"used_share": 0.9}, "room"),
    ],
)
def test_each_lack_of_ceph_is_named(changes: dict, check: str):
    assert reds(gate.ceph_findings(ceph())) == []
    assert reds(gate.ceph_findings(ceph(**changes))) == [check]


def test_data_may_be_on_its_way_where_that_is_said_as_long_as_no_copy_lacks():
    spread = ceph(
        clean=False, placement_groups={"active+clean": 48, "active+remapped+backfilling": 16}
    )
    assert reds(gate.ceph_findings(spread)) == ["placement groups"]
    assert reds(gate.ceph_findings(spread, True)) == []
    lacking = ceph(
        clean=False, placement_groups={"active+undersized+degraded+remapped+backfilling": 1}
    )
    assert reds(gate.ceph_findings(lacking, True)) == ["placement groups"]


def test_a_ceph_that_does_not_answer_is_the_only_row():
    assert reds(gate.ceph_findings({"cluster": {}, "error": "no quorum"})) == ["Ceph"]


def test_each_client_address_has_a_row():
    probes = [{"host": "a", "seconds": 0.1}, {"host": "b", "failed": True, "msg": "refused"}]
    rows = gate.client_address_findings({"failed": True, "msg": "b", "probes": probes}, ["a", "b"])
    assert reds(rows) == ["S3 through b"]
    assert [row["found"] for row in rows] == ["0.1 s", "refused"]


@pytest.mark.parametrize("facts", [{"unreachable": True, "msg": "no ssh"}, {"msg": "no ssh"}])
def test_addresses_that_nobody_could_ask_through_are_all_red(facts: dict):
    rows = gate.client_address_findings(facts, ["a", "b"])
    assert reds(rows) == ["S3 through a", "S3 through b"]
    assert {row["found"] for row in rows} == {"no ssh"}


def test_an_address_that_was_left_out_is_red():
    rows = gate.client_address_findings({"probes": [{"host": "a", "seconds": 1}]}, ["a", "b"])
    assert reds(rows) == ["S3 through b"]


POD = {
    "metadata": {"namespace": "objectstore", "name": "p", "labels": {}},
    "spec": {"nodeName": "n0"},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "message": "not yet"}],
        "containerStatuses": [
            {"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        ],
    },
}


def test_a_pod_says_why_it_is_not_ready():
    facts = looked.pod_facts(POD)
    assert (facts["ready"], facts["reason"], facts["restarts"]) == (False, "CrashLoopBackOff", 2)


def test_a_pod_that_is_ending_is_not_ready():
    pod = copy.deepcopy(POD)
    pod["status"]["conditions"][0]["status"] = "True"
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (looked.pod_facts(pod)["ready"], looked.pod_facts(pod)["reason"]) == (False, "ending")


@pytest.mark.parametrize(
    ("phase", "owner", "over"),
    [
        ("Succeeded", "Job", True),
        ("Failed", "ReplicaSet", True),
        ("Failed", "Node", False),
        ("Failed", "", False),
        ("Running", "ReplicaSet", False),
    ],
)
def test_a_failed_pod_is_over_where_its_workload_makes_another(phase: str, owner: str, over: bool):
    pod = copy.deepcopy(POD)
    pod["status"]["phase"] = phase
    pod["metadata"]["ownerReferences"] = [{"kind": owner}] if owner else []
    assert looked.pod_facts(pod)["done"] is over


def test_a_workload_that_kubernetes_has_not_looked_at_yet_is_not_of_the_newest_kind():
    item = {
        "kind": "Deployment",
        "metadata": {"namespace": "objectstore", "name": "d", "generation": 2},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 1, "readyReplicas": 3, "updatedReplicas": 3},
    }
    assert looked.workload_facts(item)["updated"] == 0
    item["status"]["observedGeneration"] = 2
    assert looked.workload_facts(item)["updated"] == 3


def test_what_an_upgrade_holds_back_is_told():
    item = {
        "kind": "StatefulSet",
        "metadata": {"namespace": "objectstore", "name": "s", "generation": 1},
        "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
        "status": {"observedGeneration": 1, "readyReplicas": 3, "updatedReplicas": 1},
    }
    facts = looked.workload_facts(item)
    assert (facts["updated"], facts["held_back"]) == (1, 2)


@pytest.mark.parametrize(
    ("updated", "renewing", "red"), [(1, True, []), (0, True, ["pods"]), (1, False, ["pods"])]
)
def test_pods_held_back_are_right_only_while_an_upgrade_runs(
    updated: int, renewing: bool, red: list[str]
):
    facts = cluster()
    facts["workloads"][0] |= {"updated": updated, "held_back": 2}
    assert reds(gate.cluster_findings(facts, NODES, renewing)) == red


def test_what_a_pod_prints_of_its_shards_is_read(monkeypatch: pytest.MonkeyPatch):
    held = '"held": {"shard-000": "0600000000000000"}'
    said = f'{{"map": {{"shards": {{}}}}, {held}, "data_shards": 3}}'
    monkeypatch.setattr(looked, "kubectl", lambda *_, **__: said)
    facts = looked.shard_facts("objectstore", "metadata-0")
    assert (facts["held"], facts["data_shards"]) == ({"shard-000": 6}, 3)
    monkeypatch.setattr(looked, "kubectl", lambda *_, **__: "Traceback")
    assert looked.shard_facts("objectstore", "metadata-0")["error"]
