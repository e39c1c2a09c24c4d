"""Filters of `objectstore status`: what the looks at nodes and cluster say, as one report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def cluster_status(
    cluster: Mapping[str, Any],
    ceph: Mapping[str, Any],
    findings: Sequence[Mapping[str, Any]],
    vms: Sequence[Mapping[str, Any]],
    metrics: str = "",
) -> dict[str, Any]:
    """One report of a store: machines, pods, shards, pools, room, and what is not well.

    `cluster` and `ceph` are the answers of the modules `cluster_gate` and `ceph_status`, `vms` the
    machines as the stack describes them, `metrics` the page of a front end.
    """
    nodes = {one["name"]: one for one in cluster.get("nodes", [])}
    facts = ceph.get("cluster") or {}
    return {
        "status": "degraded" if any(not one["ok"] for one in findings) else "ready",
        "machines": [machine(vm, nodes) for vm in vms],
        "pods": [pod for pod in cluster.get("pods", []) if pod["namespace"] != "kube-system"],
        "shards": shards(cluster.get("shards", [])),
        "pools": facts.get("pools", {}),
        "capacity": {
            "total_bytes": facts.get("total_bytes", 0),
            "used_bytes": facts.get("used_bytes", 0),
        },
        "degraded": [dict(one) for one in findings if not one["ok"]],
        "metrics": metrics,
    }


def machine(vm: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A machine; `state` is Kubernetes' word for those that are nodes of its cluster."""
    node = nodes.get(vm["name"])
    if node is None:
        state = "no node of the cluster"
    elif not node["ready"]:
        state = "not ready"
    else:
        state = "ready" if node["schedulable"] else "cordoned"
    return {**vm, "state": state, "kubernetes": node["version"] if node else ""}


def shards(pods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each shard with those that say they own it, and who follows it."""
    names = sorted({name for pod in pods for name in pod["held"]})
    found = []
    for name in names:
        held = {pod["pod"]: pod["held"][name] for pod in pods if name in pod["held"]}
        found.append(
            {
                "shard": name,
                "owners": sorted(pod for pod, epoch in held.items() if epoch),
                "epoch": max(held.values()),
                "standbys": sorted(pod for pod, epoch in held.items() if not epoch),
            }
        )
    return found


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {"cluster_status": cluster_status}
