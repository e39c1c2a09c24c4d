"""Filters of the upgrade: what is to be done, whether another run is alive, what was done."""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from packaging.version import InvalidVersion, Version

# Without pods of both of these a store serves nobody.
SERVING = {"object-controller", "metadata"}
UP_TO_DATE, UPGRADE, DOWNGRADE = "up to date", "upgrade", "downgrade"


def parsed(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion as error:
        raise AnsibleFilterError(f"{version!r} is no version: it should read like 1.4.2") from error


def older_release(version: str, running: str) -> bool:
    """Whether `version` is a release before `running`; builds of one release have no order."""
    if not running:
        return False
    return parsed(parsed(version).public) < parsed(parsed(running).public)


def targets(listing: Mapping[str, Any]) -> dict[str, str]:
    """The versions that a bundle has of what the store stands on, as they are called where they
    run: Kubernetes, etcd and ZooKeeper by the tags of their images, Ceph by its packages.
    """
    rows = {row["name"]: row["version"] for row in listing["artefacts"]}
    named = {
        "kubernetes": "kube-apiserver",
        "etcd": "etcd-image",
        "ceph": "ceph-packages",
        "zookeeper": "zookeeper",
    }
    try:
        return {name: rows[artefact] for name, artefact in named.items()}
    except KeyError as error:
        raise AnsibleFilterError(
            f"the bundle {listing['version']} holds no {error.args[0]}: it is not for a deployment"
        ) from error


def plan(
    found: Sequence[Mapping[str, Any]], version: str, others: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Per workload: what its pods run, and what this upgrade does with them. `others` are the
    versions of those that do not go by the store's own.
    """
    rows = []
    for workload in found:
        target = (others or {}).get(workload["name"], version)
        action = UPGRADE
        if workload["running"] == target and workload["whole"]:
            action = UP_TO_DATE
        elif version and older_release(target, workload["running"]):
            action = DOWNGRADE
        rows.append({**workload, "target": target, "action": action if version else ""})
    return rows


def ungated(found: Sequence[Mapping[str, Any]], version: str) -> list[dict[str, Any]]:
    """The workloads that would be put to another version with no gate between their pods; none
    while the store serves nobody, as before its first deployment came to its end.
    """
    ready = {workload["name"] for workload in found if workload["pods_ready"]}
    if not ready.issuperset(SERVING):
        return []
    return [row for row in plan(found, version) if row["action"] != UP_TO_DATE]


def node_plan(
    name: str,
    kubernetes: Mapping[str, Any],
    ceph: Mapping[str, Any],
    missing: Sequence[str],
    bundle: Mapping[str, str],
) -> dict[str, Any]:
    """What a machine runs, and what this upgrade does with it.

    The looks come from the modules `kubeadm_node` and `ceph_status`, which machines of the entry
    do not answer; `missing` are the paths that it lacks of the bundle, whose versions `bundle` are.
    """
    runs = kubernetes.get("version", "")
    node = ceph.get("node", {})
    packages = sum(path.endswith(".deb") for path in missing)
    row = {
        "name": name,
        "kubernetes": runs,
        "kubernetes_target": bundle.get("kubernetes", runs) if runs else "",
        "ceph": node.get("version", ""),
        "ceph_target": bundle.get("ceph", "") if node else "",
        "packages": packages,
        "state": "as before",
        "action": "",
    }
    if bundle:
        due = packages or kubernetes.get("due") or runs != row["kubernetes_target"]
        row["action"] = UPGRADE if due or node.get("outdated") else UP_TO_DATE
        row["state"] = "as before" if row["action"] == UPGRADE else "was up to date"
    return row


def node_text(row: Mapping[str, Any]) -> str:
    """What a machine runs and what changes, for reading."""
    parts = []
    for what in ("kubernetes", "ceph"):
        runs, target = row[what], row[f"{what}_target"]
        if runs:
            moved = f" -> {target}" if target and target != runs else ""
            parts.append(f"{what.capitalize()} {runs}{moved}")
    if row["packages"]:
        parts.append(f"{row['packages']} packages to install")
    return ", ".join(parts) or "packages as in the bundle"


def unready(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The workloads whose renewal was cut off before all of their pods were ready."""
    return [row for row in rows if not row["whole"] and row["pods_ready"] < row["pods"]]


def steps(row: Mapping[str, Any]) -> list[int]:
    """How many pods run the new version after each step; 0 is all of them.

    Pods with an identity are renewed one after the other, the last one first, with a gate after
    each; the others are renewed by Kubernetes as they get ready, in one step.
    """
    if row["action"] == UP_TO_DATE or not row["stateful"]:
        return [0]
    return [*range(1, row["pods"]), 0]


def inventory_text(
    rows: Sequence[Mapping[str, Any]],
    bundles: Sequence[str],
    nodes: Sequence[Mapping[str, Any]],
    begun: Sequence[Mapping[str, str]] = (),
) -> list[str]:
    """What each workload and machine runs and what is available, for reading. `begun` is what the
    nodes have noted of an upgrade that has not come to its end.
    """
    width = max(len(row["name"]) for row in (*rows, *nodes))
    lines = [
        f"{row['name']:<{width}}  runs {row['running']}{arrow(row)}"
        f"  ({row['pods_ready']} of {row['pods']} pods ready)  {row['action']}".rstrip()
        for row in rows
    ]
    lines += [
        f"{row['name']:<{width}}  {node_text(row)}  {row['action']}".rstrip() for row in nodes
    ]
    lines.append(f"available on this machine: {', '.join(bundles) or 'none'}")
    lines.append(recommendation(rows, bundles, sorted(note["version"] for note in begun if note)))
    return lines


def arrow(row: Mapping[str, Any]) -> str:
    return f" -> {row['target']}" if row["target"] not in ("", row["running"]) else ""


def recommendation(
    rows: Sequence[Mapping[str, Any]], bundles: Sequence[str], begun: Sequence[str]
) -> str:
    if begun:
        return f"recommendation: finish the upgrade that was begun with -e version={begun[-1]}"
    now = {row["running"] for row in rows if row["name"] != "zookeeper"}
    newest = max(bundles, key=parsed, default="")
    if newest and any(older_release(runs, newest) for runs in now):
        return f"recommendation: upgrade to {newest} with -e version={newest}"
    if len(now) > 1:
        return "recommendation: two versions run; finish the upgrade that was begun"
    return "recommendation: no newer release is available; build its bundle first"


def run_identity(_: object) -> dict[str, Any]:
    """Who runs this playbook: machine, boot and process, so that a later run can tell if it lives.

    Tasks are worked on in children of the playbook's process; that process is what counts.
    """
    pid = os.getppid() if multiprocessing.parent_process() else os.getpid()
    return {"host": platform.node(), "pid": pid, "born": born(pid)}


def run_is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether the run that took a lock is surely over: it ran on this machine and is gone."""
    if not holder or holder.get("host") != platform.node():
        return False
    return born(int(holder["pid"])) != holder.get("born")


def run_is_alive(holder: Mapping[str, Any]) -> bool:
    """Whether the run that took a lock is surely at work: it runs on this machine."""
    if not holder or holder.get("host") != platform.node():
        return False
    return born(int(holder["pid"])) == holder.get("born")


def born(pid: int) -> str:
    """When a process started, as the kernel counts, and in which boot; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot}/{stat.rpartition(')')[2].split()[19]}"


def outcome(
    rows: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
    store: str,
    version: str,
    word: str,
    cause: str,
    file: str,
) -> dict[str, Any]:
    """The report: per workload the version it ran when the upgrade began and the one now, per
    machine what was to change and how far it came.
    """
    now = {workload["name"]: workload for workload in found}
    return {
        "store": store,
        "version": version,
        "outcome": word,
        "cause": cause,
        "file": file,
        "workloads": [
            {
                "name": row["name"],
                "from": row["running"],
                "to": now[row["name"]]["running"],
                "state": state(row, now[row["name"]]),
            }
            for row in rows
        ],
        "nodes": [{key: row[key] for key in row if key != "action"} for row in nodes],
    }


def state(row: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What happened to a workload in this run."""
    if now["pods_ready"] < now["pods"]:
        return "not healthy"
    if row["action"] == UP_TO_DATE:
        return "was up to date"
    if now["running"] == row["target"]:
        return "upgraded" if row["action"] == UPGRADE else "taken back"
    return "as before" if now["running"] == row["running"] else "changed by another"


def report_text(result: Mapping[str, Any]) -> list[str]:
    """The outcome of an upgrade for reading."""
    lines = [f"upgrade of {result['store']} to {result['version']}: {result['outcome']}"]
    width = max(len(row["name"]) for row in (*result["workloads"], *result["nodes"]))
    for row in result["workloads"]:
        lines.append(f"  {row['name']:<{width}}  {row['from']} -> {row['to']}  {row['state']}")
    for row in result["nodes"]:
        lines.append(f"  {row['name']:<{width}}  {node_text(row)}  {row['state']}")
    if result.get("cause"):
        lines.append(f"  cause: {result['cause']}")
    lines.append(f"  report: {result['file']}")
    return lines


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "upgrade_targets": targets,
            "upgrade_plan": plan,
            "upgrade_ungated": ungated,
            "upgrade_node_plan": node_plan,
            "upgrade_steps": steps,
            "upgrade_unready": unready,
            "upgrade_inventory_text": inventory_text,
            "upgrade_run_identity": run_identity,
            "upgrade_run_is_dead": run_is_dead,
            "upgrade_run_is_alive": run_is_alive,
            "upgrade_report": outcome,
            "upgrade_report_text": report_text,
        }
