"""Ansible module: the monitor and the manager of a node, members of the store's Ceph cluster.

Theory of operation. The monitor's key and the administrator's are made by the operator and the map
of the first monitors follows from the inventory, so all of them are made at once and form a quorum
by themselves. A node that joins later, or was replaced, gets the map from the living quorum; where
a cluster was formed and no quorum answers, nothing is made: two empty monitors would agree on an
empty cluster.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import (
    DATA,
    Admin,
    CephError,
    Unit,
    keyring,
    make_folder,
    own,
    run,
    wait,
    write_private,
)

DOCUMENTATION = """
module: ceph_cluster
short_description: A node's monitor and manager
description:
  - Makes them where they belong, enables and starts them, and waits until the monitor is in quorum.
  - Reads C(/etc/ceph/ceph.conf) and the administrator's keyring, which must be there.
options:
  fsid:
    description: The cluster's identity.
    type: str
    required: true
  node:
    description: This node's name, which its daemons bear.
    type: str
    required: true
  monitors:
    description: Name and address of each node that has a monitor.
    type: list
    elements: dict
    required: true
  managers:
    description: Names of the nodes that have a manager.
    type: list
    elements: str
    required: true
  monitor_key:
    description: The key that the monitors share.
    type: str
    required: true
  admin_key:
    description: The administrator's key.
    type: str
    required: true
  muted:
    description: Health checks that are kept silent; the first of the managers' nodes sees to it.
    type: list
    elements: str
    default: []
  formed:
    description: Whether any node has data of the cluster already, so that none may be begun.
    type: bool
    required: true
  timeout_s:
    description: How long the monitor may take to be in quorum.
    type: int
    default: 60
"""

ADMIN_CAPS = dict.fromkeys(("mon", "mgr", "osd", "mds"), "allow *")
MANAGER_CAPS = ["mon", "allow profile mgr", "osd", "allow *", "mds", "allow *"]
QUORUM_S_MAX = 10
RUNNING = "running"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "fsid": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
            "monitors": {"type": "list", "elements": "dict", "required": True},
            "managers": {"type": "list", "elements": "str", "required": True},
            "monitor_key": {"type": "str", "required": True, "no_log": True},
            "admin_key": {"type": "str", "required": True, "no_log": True},
            "muted": {"type": "list", "elements": "str", "default": []},
            "formed": {"type": "bool", "required": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    member = Member(module.params)
    try:
        before = member.states()
        after = dict.fromkeys(before, RUNNING) | member.wanted_mutes()
        if before != after and not module.check_mode:
            member.bring_up()
    except CephError as error:
        module.fail_json(msg=f"{member.node}: {error}")
    module.exit_json(changed=before != after, diff={"before": before, "after": after})


class Member:
    """What this node is in the cluster."""

    def __init__(self, params: dict) -> None:
        self.node: str = params["node"]
        self._params = params
        self._daemons = {}
        if any(monitor["name"] == self.node for monitor in params["monitors"]):
            self._daemons["monitor"] = (DATA / "mon" / f"ceph-{self.node}", Unit("mon", self.node))
        if self.node in params["managers"]:
            self._daemons["manager"] = (DATA / "mgr" / f"ceph-{self.node}", Unit("mgr", self.node))

    def states(self) -> dict[str, str]:
        """How each daemon that belongs here is: absent, or its unit's state. And, where this node
        sees to it, which checks are silent. Raises CephError.
        """
        found = {
            kind: unit.state() if (folder / "keyring").is_file() else "absent"
            for kind, (folder, unit) in self._daemons.items()
        }
        if self.wanted_mutes() and found["manager"] == RUNNING:
            with Admin() as admin:
                mutes = admin.ask("health", detail="detail")["mutes"]
            found["muted"] = " ".join(sorted(mute["code"] for mute in mutes))
        return found

    def wanted_mutes(self) -> dict[str, str]:
        """Only one node sees to the cluster's mutes."""
        if self.node != self._params["managers"][0]:
            return {}
        return {"muted": " ".join(sorted(self._params["muted"]))}

    def bring_up(self) -> None:
        """Raises CephError."""
        for kind, prepare in (("monitor", self._make_monitor), ("manager", self._make_manager)):
            if kind in self._daemons:
                folder, unit = self._daemons[kind]
                if not (folder / "keyring").is_file():
                    prepare(folder)
                unit.start()
                if kind == "monitor":
                    wait(self._out_of_quorum, "this monitor in quorum", self._params["timeout_s"])
        if self.wanted_mutes():
            with Admin() as admin:
                for code in self._params["muted"]:
                    admin.ask("health mute", code=code, sticky=True)

    def _make_monitor(self, folder: Path) -> None:
        """Made beside its place and renamed, so that a monitor is there as a whole or not."""
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        make_folder(making)
        with tempfile.TemporaryDirectory() as name:
            monmap, secrets = Path(name) / "monmap", Path(name) / "keyring"
            self._write_map(monmap)
            keys = {
                "mon.": (self._params["monitor_key"], {"mon": "allow *"}),
                "client.admin": (self._params["admin_key"], ADMIN_CAPS),
            }
            for path, text in ((secrets, keyring(keys)), (monmap, None)):
                if text is not None:
                    path.write_text(text)
                own(path)
            own(Path(name))
            run(
                *("ceph-mon", "--mkfs", "-i", self.node, "--mon-data", str(making)),
                *("--monmap", str(monmap), "--keyring", str(secrets)),
                *("--setuser", "ceph", "--setgroup", "ceph"),
            )
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(making, folder)

    def _write_map(self, path: Path) -> None:
        if self._params["formed"]:
            with Admin() as admin:
                path.write_bytes(admin.raw("mon getmap"))
            return
        addresses = [
            part
            for monitor in self._params["monitors"]
            for part in ("--addv", monitor["name"], vector(monitor["address"]))
        ]
        run("monmaptool", "--create", "--fsid", self._params["fsid"], *addresses, str(path))

    def _make_manager(self, folder: Path) -> None:
        name = f"mgr.{self.node}"
        with Admin(QUORUM_S_MAX) as admin:
            found = admin.ask("auth get-or-create", entity=name, caps=MANAGER_CAPS)
        make_folder(folder)
        write_private(folder / "keyring", keyring({name: (found[0]["key"], {})}))

    def _out_of_quorum(self) -> str:
        """What is lacking; nothing when this monitor is one of the quorum."""
        try:
            with Admin() as admin:
                names = admin.ask("quorum_status")["quorum_names"]
        except CephError as error:
            return str(error)
        return "" if self.node in names else f"a quorum of {', '.join(names)}"


def vector(address: str) -> str:
    """The addresses of a monitor in both protocols."""
    return f"[v2:{address}:3300,v1:{address}:6789]"


if __name__ == "__main__":
    main()
