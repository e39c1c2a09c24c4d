"""Filters of the gate: whether the cluster under the store is whole, as pure functions on facts.

The facts come from the modules `cluster_gate`, `etcd_member` and `ceph_status`. Each row is a
finding as in `objectstore.py`; a row that is red says what the operator does next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Finding = dict[str, Any]

CLUSTER = "cluster"
# States of placement groups of which every copy is there, if not yet where it belongs.
MOVING = {
    "active+clean",
    "active+remapped",
    "active+remapped+backfilling",
    "active+remapped+backfill_wait",
    "active+clean+remapped",
}
DIRECTORY = "directory"
# Whom a map that knows no owner names, and the epoch.
NOBODY = ("nobody", 0)
KUBECTL = "kubectl --namespace=objectstore"


def finding(check: str, ok: bool, found: str, next_step: str, node: str = CLUSTER) -> Finding:
    return {
        "node": node,
        "check": check,
        "ok": ok,
        "found": found,
        "next_step": "" if ok else next_step,
    }


def reason(facts: Mapping[str, Any]) -> str:
    """Why there are no facts."""
    return str(facts.get("error") or facts.get("msg") or "no answer")


def cluster_findings(
    facts: Mapping[str, Any], nodes: Sequence[str], renewing: bool = False
) -> list[Finding]:
    """Nodes, pods and shards. `nodes` are the default nodes that there should be; while `renewing`,
    pods that an upgrade holds back are as they should be.
    """
    if facts.get("error") or "nodes" not in facts:
        step = (
            "see that the API answers on the management address: "
            "`systemctl status kubelet keepalived` on each default node"
        )
        return [finding("Kubernetes API", False, reason(facts), step)]
    return [
        *(node_finding(facts["nodes"], name) for name in nodes),
        pods_finding(facts, renewing),
        zookeeper_finding(facts["workloads"]),
        *shard_findings(facts["shards"]),
    ]


def upgrade_findings(
    begun: Sequence[Mapping[str, str]], store: str, at_work: bool
) -> list[Finding]:
    """Whether an upgrade stands half done. `begun` is what nodes have noted of one that has not
    come to its end, `at_work` whether its run is surely alive.
    """
    notes = sorted(((note["since"], note["version"]) for note in begun if note), reverse=True)
    if not notes:
        return [finding("upgrade", True, "none under way", "")]
    since, version = notes[0]
    said = f"to {version}, begun at {since}"
    step = (
        f"`OBJECTSTORE_STORE={store} ansible-playbook playbooks/upgrade.yml -e version={version}` "
        "goes on where it stopped; what stopped it is in the last report in the store's folder "
        "`upgrades`"
    )
    if at_work:
        return [finding("upgrade", True, f"{said}, at work", "")]
    return [finding("upgrade", False, f"{said}, has not come to its end", step)]


def node_finding(nodes: Sequence[Mapping[str, Any]], name: str) -> Finding:
    """Whether a node takes pods."""
    found = {one["name"]: one for one in nodes}.get(name)
    if found is None:
        step = "the node never joined: run playbooks/site.yml, or playbooks/node_replaced.yml"
        return finding("Kubernetes node", False, "not a member", step, name)
    if not found["ready"]:
        step = "`systemctl status kubelet containerd` on the node; `make refresh`, then `make up`, "
        step += "starts one that is off, and makes another one in the place of one that is gone"
        return finding("Kubernetes node", False, found["reason"], step, name)
    step = f"nothing works on it, or an upgrade stopped there: `kubectl uncordon {name}`"
    said = f"ready, {found['version']}" if found["schedulable"] else "cordoned"
    return finding("Kubernetes node", found["schedulable"], said, step, name)


def pods_finding(facts: Mapping[str, Any], renewing: bool) -> Finding:
    """Whether every workload has all its pods, ready and of the newest kind, and no pod is not.
    Those of a node that is not ready are only counted.
    """
    lacking = [
        f"{one['name']} {one['ready']}/{one['wanted']} ready, {one['updated']} renewed"
        for one in facts["workloads"]
        if one["ready"] != one["wanted"] or one["updated"] not in renewed(one, renewing)
    ]
    away = {node["name"] for node in facts["nodes"] if not node["ready"]}
    ill = [pod for pod in facts["pods"] if not pod["ready"] and not pod["done"]]
    lost = Counter(pod["node"] for pod in ill if pod["node"] in away)
    wrong = [f"{count} on {node}, which is not ready" for node, count in sorted(lost.items())]
    wrong += [
        f"{pod['name']} on {pod['node'] or 'no node'}: {pod['reason']}"
        for pod in ill
        if pod["node"] not in away
    ]
    said = "; ".join([*lacking, *wrong]) or f"{len(facts['pods'])} ready"
    step = f"`{KUBECTL} describe pod NAME` and `{KUBECTL} logs NAME` say why"
    if away:
        step = f"bring {', '.join(sorted(away))} back first; if a pod stays away: {step}"
    return finding("pods", not ill and not lacking, said, step)


def renewed(workload: Mapping[str, Any], renewing: bool) -> range:
    """How many pods may be of the newest kind."""
    held_back = workload["held_back"] if renewing else 0
    return range(max(0, workload["wanted"] - held_back), workload["wanted"] + 1)


def zookeeper_finding(workloads: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether all servers of ZooKeeper are there."""
    found = {one["name"]: one for one in workloads}.get("zookeeper")
    said = f"{found['ready']}/{found['wanted']} ready" if found else "there is none"
    step = (
        "one of three may be away, without two of them nothing can move: "
        f"`{KUBECTL} get pods -o wide` names its node, then its log"
    )
    return finding("ZooKeeper", bool(found and found["ready"] == found["wanted"]), said, step)


def shard_findings(pods: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Whether each shard is owned by one pod, and every pod takes that one for the owner. Pods that
    do not answer are a row of their own, and the shards are judged by what the others say.
    """
    silent = [f"{pod['pod']}: {pod['error']}" for pod in pods if pod["error"]]
    answering = [pod for pod in pods if not pod["error"]]
    step = "a pod that can own shards does not answer: mend the rows of nodes and pods first"
    said = "; ".join(silent) or "no pods"
    found = [finding("pods of shards", False, said, step)] if silent or not pods else []
    if not answering:
        return found
    count = max(pod["data_shards"] for pod in answering)
    wanted = {DIRECTORY, *(f"shard-{number:03d}" for number in range(count))}
    held = {name for pod in answering for name in pod["held"]}
    return found + [shard_finding(answering, name) for name in sorted(wanted | held)]


def shard_finding(pods: Sequence[Mapping[str, Any]], shard: str) -> Finding:
    """One shard: who believes to own it, under which epoch, and what the others believe."""
    held = {pod["pod"]: pod["held"][shard] for pod in pods if pod["held"].get(shard)}
    named = {
        (entry["pod"], entry["epoch"]) if (entry := pod["map"].get(shard)) else NOBODY
        for pod in pods
    }
    owners = ", ".join(f"{pod} (epoch {epoch})" for pod, epoch in sorted(held.items()))
    ok = len(held) == 1 and named == set(held.items())
    said = owners or "owned by nobody"
    others = named - set(held.items()) - (set() if held else {NOBODY})
    if not ok and others:
        also = ", ".join(f"{pod} (epoch {epoch})" for pod, epoch in sorted(others))
        said += f"; the map also says {also}"
    step = (
        "it moves within seconds while ZooKeeper answers; if it stays, the logs of the pods "
        f"`metadata` and `iam` say why: `{KUBECTL} logs -l app.kubernetes.io/name=metadata`"
    )
    return finding(shard, ok, said, step)


def etcd_findings(facts: Mapping[str, Any], nodes: Sequence[str]) -> list[Finding]:
    """Whether every node of the control plane has a member of etcd that is well and votes."""
    step = (
        "start the node if it is off; if it runs: `journalctl -u kubelet` there, and the log of "
        "its pod etcd in kube-system"
    )
    if "members" not in facts:
        return [finding("etcd", False, reason(facts), step)]
    members = {one["name"]: one for one in facts["members"]}
    wrong = [f"{name} is no member" for name in nodes if name not in members]
    wrong += [f"{name} is not well" for name, one in members.items() if not one["healthy"]]
    wrong += [f"{name} still learns" for name, one in members.items() if one["learner"]]
    wrong += [f"{name or 'nameless'} is left over" for name in members if name not in nodes]
    said = "; ".join(wrong) or f"{len(members)} members, all well"
    return [finding("etcd", not wrong, said, step)]


def ceph_findings(facts: Mapping[str, Any], moving: bool = False) -> list[Finding]:
    """Whether nothing that is stored lacks a copy, and there is room. With `moving`, copies may be
    on their way to other places, as after a node has joined, as long as none is lacking.
    """
    step = "`ceph status` and `ceph health detail` on a default node"
    if not facts.get("cluster"):
        return [finding("Ceph", False, reason(facts), f"{step}; most monitors have to run")]
    ceph = facts["cluster"]
    missing = ceph["monitors"] - len(ceph["quorum"])
    away = sorted(str(n) for n, osd in ceph["osds"].items() if not (osd["up"] and osd["in"]))
    states = ", ".join(f"{count} {state}" for state, count in ceph["placement_groups"].items())
    on_their_way = moving and not ceph["clean"] and set(ceph["placement_groups"]) <= MOVING
    if on_their_way:
        states += ": all copies are there, data is being spread anew"
    flags = sorted({"noout", "norebalance", "norecover", "nobackfill"} & set(ceph["flags"]))
    used = ceph["used_share"]
    return [
        finding(
            "Ceph monitors",
            not missing,
            f"{len(ceph['quorum'])} of {ceph['monitors']} in quorum",
            "start the first three default nodes that are off; `systemctl status ceph-mon@NODE` on "
            "those that run",
        ),
        finding(
            "Ceph OSDs",
            not away,
            f"down or out: {', '.join(away)}" if away else f"{len(ceph['osds'])} up and in",
            "`ceph osd tree` names the node; start it if it is off, else `systemctl status "
            "ceph-osd@NUMBER` there",
        ),
        finding(
            "placement groups",
            bool(ceph["clean"]) or on_their_way,
            states or "none",
            f"while an OSD is away, bring that back first; copies that lack are made anew by "
            f"themselves, wait; if it does not go on: {step}",
        ),
        finding(
            "Ceph maintenance",
            not flags,
            ", ".join(flags) or "none",
            "left over from an upgrade that was interrupted: run it again, or "
            "`ceph osd unset FLAG`",
        ),
        finding(
            "room",
            used < ceph["nearfull_share"],
            f"{used:.0%} used, warning from {ceph['nearfull_share']:.0%}",
            "add default nodes, or delete objects and run `objectstore atlas run`",
        ),
    ]


def client_address_findings(facts: Mapping[str, Any], addresses: Sequence[str]) -> list[Finding]:
    """What the module `s3_probe` found through each client address; without a row of its own, an
    address is red for what the whole look says.
    """
    step = (
        "the rows above say what is wrong; if none is red: `journalctl -u envoy -u keepalived` on "
        "the envoys"
    )
    probes = {probe["host"]: probe for probe in facts.get("probes", [])}
    found = []
    for address in addresses:
        probe = probes.get(address, facts)
        ok = "seconds" in probe
        said = f"{probe['seconds']} s" if ok else reason(probe)
        found.append(finding(f"S3 through {address}", ok, said, step))
    return found


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "cluster_findings": cluster_findings,
            "upgrade_findings": upgrade_findings,
            "etcd_findings": etcd_findings,
            "ceph_findings": ceph_findings,
            "client_address_findings": client_address_findings,
        }
