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


def plan(
    looks: Mapping[str, Mapping[str, Any]], version: str, prefix: str, data_node: str
) -> list[dict[str, Any]]:
    """Per default node: what runs, what is installed, and what this upgrade does with it.

    The nodes with front ends come first and the data node last: a version that fails is found
    where no data lies and a restart is unnoticed, and what the data node writes is only ever read
    by front ends of its own version or a newer one.
    """
    rows = []
    for node in sorted(looks, key=lambda name: (name == data_node, name)):
        look = looks[node]
        runs = running(look)
        action = UPGRADE
        if runs == version:
            action = UP_TO_DATE
        elif version and older_release(version, runs):
            action = DOWNGRADE
        rows.append(
            {
                "node": node,
                "role": "data" if node == data_node else "front end",
                "running": runs,
                "installed": look.get("installed", {}).get(prefix, []),
                "action": action if version else "",
            }
        )
    return rows


def inventory_text(rows: Sequence[Mapping[str, Any]], bundles: Sequence[str]) -> list[str]:
    """What runs on each node and what is available, for reading."""
    width = max(len(row["node"]) for row in rows)
    lines = [
        f"{row['node']:<{width}}  {row['role']:<9}  runs {row['running'] or 'nothing'}"
        f"  (installed: {', '.join(row['installed']) or 'none'})  {row['action']}".rstrip()
        for row in rows
    ]
    lines.append(f"available on this machine: {', '.join(bundles) or 'none'}")
    lines.append(recommendation(rows, bundles))
    return lines


def recommendation(rows: Sequence[Mapping[str, Any]], bundles: Sequence[str]) -> str:
    now = {row["running"] for row in rows if row["running"]}
    newest = max(bundles, key=parsed, default="")
    if not now:
        return "recommendation: nothing runs here yet; deploy with `make up`"
    if newest and any(older_release(runs, newest) for runs in now):
        return f"recommendation: upgrade to {newest} with -e version={newest}"
    if len(now) > 1:
        return "recommendation: the nodes run different versions; finish the upgrade that was begun"
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
    looks: Mapping[str, Mapping[str, Any]],
    store: str,
    version: str,
    word: str,
    cause: str,
    file: str,
) -> dict[str, Any]:
    """The report: per node the version it ran when the upgrade began and the one it runs now."""
    return {
        "store": store,
        "version": version,
        "outcome": word,
        "cause": cause,
        "file": file,
        "nodes": [
            {
                "node": row["node"],
                "role": row["role"],
                "from": row["running"] or "nothing",
                "to": running(looks[row["node"]]) or "no answer",
                "state": state(row, running(looks[row["node"]]), version),
            }
            for row in rows
        ],
    }


def running(look: Mapping[str, Any]) -> str:
    return str(look.get("live", {}).get("version", ""))


def state(row: Mapping[str, Any], now: str, version: str) -> str:
    """What happened to a node in this run."""
    if row["running"] == version:
        return "was up to date"
    if now == version:
        return "upgraded" if row["action"] == UPGRADE else "taken back"
    return "as before" if now == row["running"] else "not healthy"


def report_text(result: Mapping[str, Any]) -> list[str]:
    """The outcome of an upgrade for reading."""
    lines = [f"upgrade of {result['store']} to {result['version']}: {result['outcome']}"]
    width = max((len(node["node"]) for node in result["nodes"]), default=0)
    for node in result["nodes"]:
        lines.append(f"  {node['node']:<{width}}  {node['from']} -> {node['to']}  {node['state']}")
    if result.get("cause"):
        lines.append(f"  cause: {result['cause']}")
    lines.append(f"  report: {result['file']}")
    return lines


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "upgrade_plan": plan,
            "upgrade_inventory_text": inventory_text,
            "upgrade_run_identity": run_identity,
            "upgrade_run_is_dead": run_is_dead,
            "upgrade_report": outcome,
            "upgrade_report_text": report_text,
        }
