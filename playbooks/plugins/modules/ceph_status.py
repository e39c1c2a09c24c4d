"""Ansible module: what this node is in the store's Ceph cluster, and how the cluster is.

Changes nothing and judges nothing: preflight, gates and the health check draw their own
conclusions from the same facts.
"""

from __future__ import annotations

import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import CLEAN, Admin, CephError, daemons_here, outdated, run

DOCUMENTATION = """
module: ceph_status
short_description: What a node is in the Ceph cluster, and how the cluster is
description:
  - Gathers facts. Changes nothing.
options:
  cluster:
    description: Whether the cluster is asked, too. Without it only this node is looked at.
    type: bool
    default: true
"""

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool")


def main() -> None:
    module = AnsibleModule(
        argument_spec={"cluster": {"type": "bool", "default": True}}, supports_check_mode=True
    )
    cluster: dict[str, Any] = {}
    error = ""
    if module.params["cluster"]:
        try:
            with Admin() as admin:
                admin.refresh()
                cluster = cluster_facts(admin)
        except CephError as raised:
            error = str(raised)
    module.exit_json(changed=False, node=node_facts(), cluster=cluster, error=error)


def node_facts() -> dict[str, Any]:
    """Which daemons were made here, which run with old settings or programs, what is installed and
    which programs are missing.
    """
    here = daemons_here()
    return {
        "monitors": [name for kind, name in here if kind == "mon"],
        "managers": [name for kind, name in here if kind == "mgr"],
        "osds": [name for kind, name in here if kind == "osd"],
        "outdated": [".".join(daemon) for daemon in outdated()],
        "version": installed_version(),
        "missing": [name for name in PROGRAMS if shutil.which(name) is None],
    }


def installed_version() -> str:
    """The version of Ceph's packages; empty where there are none."""
    try:
        return run("dpkg-query", "--show", "--showformat=${Version}", PROGRAMS[0])
    except CephError:
        return ""


def cluster_facts(admin: Admin) -> dict[str, Any]:
    """`clean` is whether all placement groups are active+clean; shares are of all raw room;
    `checks` are those that are not silenced. Of pools, `stored_bytes` and `free_bytes` are before
    copies are made.
    """
    status, dump, room = admin.ask("status"), admin.ask("osd dump"), admin.ask("df")
    pgs = status["pgmap"]
    states = {row["state_name"]: row["count"] for row in pgs.get("pgs_by_state", [])}
    osds = dump["osds"]
    return {
        "fsid": status["fsid"],
        "health": status["health"]["status"],
        "checks": {
            name: check["summary"]["message"]
            for name, check in status["health"]["checks"].items()
            if not check["muted"]
        },
        "monitors": status["monmap"]["num_mons"],
        "quorum": status["quorum_names"],
        "manager": bool(status["mgrmap"]["available"]),
        "osds": {row["osd"]: {"up": bool(row["up"]), "in": bool(row["in"])} for row in osds},
        "placement_groups": states,
        "clean": states == {CLEAN: pgs["num_pgs"]},
        "pools": {
            pool["name"]: {
                "stored_bytes": pool["stats"]["stored"],
                "objects": pool["stats"]["objects"],
                "free_bytes": pool["stats"]["max_avail"],
            }
            for pool in room["pools"]
        },
        "total_bytes": room["stats"]["total_bytes"],
        "used_bytes": room["stats"]["total_used_raw_bytes"],
        "used_share": pgs["bytes_used"] / pgs["bytes_total"] if pgs.get("bytes_total") else 0.0,
        "nearfull_share": dump["nearfull_ratio"],
        "full_share": dump["full_ratio"],
        "flags": sorted(flag for flag in dump["flags"].split(",") if flag),
    }


if __name__ == "__main__":
    main()
