"""Ansible module: the lock that keeps two upgrades of one store apart, a file on the first node.

It lies in a folder that a reboot empties. Who holds it is written into it; a holder that is surely
dead is replaced by the caller's word (`takeover`), anyone else keeps it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: upgrade_lock
short_description: Take, read or release the lock of a store's upgrade
description:
  - Keeps two upgrades of one store apart.
options:
  path:
    description: The lock's file.
    type: path
    default: /run/objectstore-upgrade.json
  holder:
    description: Who takes or releases the lock.
    type: dict
    default: {}
  state:
    description: Only read it, take it, or release it.
    type: str
    choices: [read, taken, released]
    default: read
  takeover:
    description: Take the lock from whoever holds it.
    type: bool
    default: false
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/run/objectstore-upgrade.json"},
            "holder": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["read", "taken", "released"], "default": "read"},
            "takeover": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, holder = Path(module.params["path"]), module.params["holder"]
    found = read(path)
    if module.params["state"] == "read" or module.check_mode:
        module.exit_json(changed=False, holder=found)
    if module.params["state"] == "released":
        if same(found, holder):
            path.unlink(missing_ok=True)
        module.exit_json(changed=same(found, holder), holder={})
    if found and not same(found, holder):
        if not module.params["takeover"]:
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.get("since", 0)))
            module.fail_json(
                msg=f"another upgrade of this store is running since {since}, on "
                f"{found.get('host')} (process {found.get('pid')}). Wait for it; if it is "
                "surely over, pass -e upgrade_takeover=true."
            )
        path.unlink(missing_ok=True)
    if same(found, holder):
        module.exit_json(changed=False, holder=found)
    mine = {**holder, "since": time.time()}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        module.fail_json(msg="another upgrade of this store took the lock at this moment")
    with os.fdopen(descriptor, "w") as file:
        json.dump(mine, file)
    module.exit_json(changed=True, holder=mine)


def read(path: Path) -> dict:
    try:
        holder = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        # Cut off while it was written: somebody holds it, nobody knows who.
        return {"host": "unknown", "pid": 0}
    return holder if isinstance(holder, dict) else {"host": "unknown", "pid": 0}


def same(found: dict, holder: dict) -> bool:
    return bool(found) and all(str(found.get(k)) == str(holder.get(k)) for k in ("host", "born"))


if __name__ == "__main__":
    main()
