"""Ansible module: users of the cluster, with the keys that the operator made and least rights."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import Admin, CephError, keyring

DOCUMENTATION = """
module: ceph_user
short_description: Users of the cluster
description:
  - Gives each user its key and exactly the capabilities that are asked for.
options:
  users:
    description: For each user C(name) (C(client.X)) and C(caps), kind of daemon to capability.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The user's name.
        type: str
        required: true
      caps:
        description: What it may do, by kind of daemon.
        type: dict
        required: true
  keys:
    description: The key of each user, by its name.
    type: dict
    required: true
"""

USER = {"name": {"type": "str", "required": True}, "caps": {"type": "dict", "required": True}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "dict", "required": True, "options": USER},
            "keys": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    users = {user["name"]: user["caps"] for user in module.params["users"]}
    keys = module.params["keys"]
    try:
        with Admin() as admin:
            found = {row["entity"]: row for row in admin.ask("auth ls")["auth_dump"]}
            before = {name: shown(found.get(name), keys[name]) for name in users}
            after = {name: {"key": "as it should be", **caps} for name, caps in users.items()}
            changed = [name for name in users if before[name] != after[name]]
            if changed and not module.check_mode:
                entries = {name: (keys[name], users[name]) for name in changed}
                admin.raw("auth import", keyring(entries).encode())
    except CephError as error:
        module.fail_json(msg=f"users: {error}")
    module.exit_json(changed=bool(changed), diff={"before": before, "after": after})


def shown(row: dict[str, Any] | None, key: str) -> dict[str, str] | None:
    """What a user is, without its key."""
    if row is None:
        return None
    return {"key": "as it should be" if row["key"] == key else "another", **row["caps"]}


if __name__ == "__main__":
    main()
