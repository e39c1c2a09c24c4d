"""Ansible module: the lock that keeps two upgrades of one store apart, and the note that one was
begun and has not come to its end.

The lock is a file on the first node, in a folder that a reboot empties. Who holds it is written
into it; a holder that is surely dead is replaced by the caller's word (`takeover`), anyone else
keeps it. The note lies on every default node, so that it outlives each of them, and says which
version the upgrade goes to; it stays when the upgrade stops or is cut off.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: upgrade_lock
short_description: The lock of a store's upgrade, and the note that one was begun
description:
  - Keeps two upgrades of one store apart, and returns who upgrades it as RV(holder).
  - >-
    Notes on a node that an upgrade was begun, which RV(begun) returns - its version and when -
    until one has come to its end.
options:
  note:
    description: The note's file.
    type: path
    default: /var/lib/objectstore/upgrade.json
  version:
    description: What the upgrade goes to, for O(state=begun).
    type: str
    default: ""
  path:
    description: The lock's file.
    type: path
    default: /run/objectstore-upgrade.json
  holder:
    description: Who takes or releases the lock.
    type: dict
    default: {}
  state:
    description:
      - Only read both; take the lock, or release it; write the note, or remove it.
    type: str
    choices: [read, taken, released, begun, finished]
    default: read
  takeover:
    description: Take the lock from whoever holds it.
    type: bool
    default: false
"""

WHEN = "%Y-%m-%d %H:%M:%S UTC"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/run/objectstore-upgrade.json"},
            "holder": {"type": "dict", "default": {}},
            "note": {"type": "path", "default": "/var/lib/objectstore/upgrade.json"},
            "version": {"type": "str", "default": ""},
            "state": {
                "type": "str",
                "choices": ["read", "taken", "released", "begun", "finished"],
                "default": "read",
            },
            "takeover": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, holder = Path(module.params["path"]), module.params["holder"]
    found, note = read(path), Path(module.params["note"])
    if module.params["state"] == "read" or module.check_mode:
        module.exit_json(changed=False, holder=found, begun=noted(note))
    if module.params["state"] in ("begun", "finished"):
        version = module.params["version"] if module.params["state"] == "begun" else ""
        module.exit_json(changed=brought(note, version), holder=found, begun=noted(note))
    if module.params["state"] == "released":
        if same(found, holder):
            path.unlink(missing_ok=True)
        module.exit_json(changed=same(found, holder), holder={})
    if found and not same(found, holder):
        if not module.params["takeover"]:
            since = time.strftime(WHEN, time.gmtime(found.get("since", 0)))
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


def noted(note: Path) -> dict:
    """The version that an upgrade was begun to, and since when; empty when none was."""
    try:
        return dict(json.loads(note.read_text()))
    except FileNotFoundError:
        return {}


def brought(note: Path, version: str) -> bool:
    """Let the note say that version, or be gone where none is given; whether it changed. One that
    says it already keeps the time of its beginning.
    """
    if noted(note).get("version", "") == version:
        return False
    if not version:
        note.unlink()
        return True
    note.parent.mkdir(parents=True, exist_ok=True)
    incoming = note.with_name(f".{note.name}")
    incoming.write_text(
        json.dumps({"version": version, "since": time.strftime(WHEN, time.gmtime())})
    )
    os.replace(incoming, note)
    return True


def same(found: dict, holder: dict) -> bool:
    return bool(found) and all(str(found.get(k)) == str(holder.get(k)) for k in ("host", "born"))


if __name__ == "__main__":
    main()
