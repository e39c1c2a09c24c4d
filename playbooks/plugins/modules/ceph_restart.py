"""Ansible module: restart a node's daemons without the store noticing: one kind after the other.

Replicas are not moved meanwhile (`noout`), each daemon is back before the next one goes, and at the
end every placement group is active+clean again. Nodes go one after the other: the task that calls
this has `throttle: 1`. That the flag was set here is noted in a file first, so that a run that was
cut off leaves it to the next one to take it back; one that an operator set stays.
"""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import (
    Admin,
    CephError,
    Unit,
    daemons_here,
    outdated,
    wait,
)

DOCUMENTATION = """
module: ceph_restart
short_description: Restart a node's Ceph daemons
description:
  - Restarts monitor, manager and OSD of this node in that order, each when the one before is back.
options:
  state:
    description: C(cleared) restarts nothing, and takes back what a run left that was cut off.
    type: str
    choices: [restarted, cleared]
    default: restarted
  outdated:
    description: Only those that run with older settings or programs than lie on the node.
    type: bool
    default: false
  timeout_s:
    description: How long each step may take.
    type: int
    default: 120
"""

NOOUT_IS_OURS = Path("/var/lib/ceph/noout-of-restart")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["restarted", "cleared"],
                "default": "restarted",
            },
            "outdated": {"type": "bool", "default": False},
            "timeout_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        left_over = NOOUT_IS_OURS.exists()
        if module.params["state"] == "cleared":
            daemons = []
            if left_over and not module.check_mode:
                with Admin() as admin:
                    clear(admin)
        else:
            daemons = outdated() if module.params["outdated"] else daemons_here()
            if (daemons or left_over) and not module.check_mode:
                restart(daemons, module.params["timeout_s"])
    except CephError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(daemons) or left_over,
        restarted=[f"{kind}.{name}" for kind, name in daemons],
    )


def restart(daemons: list[tuple[str, str]], timeout_s: int) -> None:
    with Admin() as admin:
        if "noout" not in admin.ask("osd dump")["flags"].split(","):
            NOOUT_IS_OURS.touch()
        try:
            admin.wait_clean(timeout_s)
            admin.ask("osd set", key="noout")
            for kind, name in daemons:
                restart_one(admin, kind, name, timeout_s)
            admin.wait_clean(timeout_s)
        finally:
            if NOOUT_IS_OURS.exists():
                clear(admin)


def clear(admin: Admin) -> None:
    """Let replicas be moved again."""
    admin.ask("osd unset", key="noout")
    NOOUT_IS_OURS.unlink()


def restart_one(admin: Admin, kind: str, name: str, timeout_s: int) -> None:
    """Return when the cluster has seen it go and come back."""
    seen = {"mon": election, "osd": boot}.get(kind)
    before = seen(admin, name) if seen else 0
    Unit(kind, name).restart()
    if seen:
        what = f"{kind}.{name} back"
        wait(lambda: "" if seen(admin, name) > before else "not yet", what, timeout_s)


def election(admin: Admin, name: str) -> int:
    """The epoch of the quorum, if this monitor is in it."""
    try:
        status = admin.ask("quorum_status")
    except CephError:
        return 0
    return int(status["election_epoch"]) if name in status["quorum_names"] else 0


def boot(admin: Admin, name: str) -> int:
    """The map's epoch in which this OSD came up, if it is."""
    for row in admin.ask("osd dump")["osds"]:
        if row["osd"] == int(name) and row["up"]:
            return int(row["up_from"])
    return 0


if __name__ == "__main__":
    main()
