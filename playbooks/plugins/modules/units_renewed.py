"""Ansible module: units run the programs, and read the files, that lie on the disk.

New packages and programs are installed with everything left running, so that a node's daemons can
be renewed in their order. What runs a program or a library that was replaced, or started before a
file changed that it reads at its start, is restarted here: also where the run that changed it was
cut off. What was stopped stays so. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.programs import runs_replaced, started_before

DOCUMENTATION = """
module: units_renewed
short_description: Units run the programs that lie on the disk
description:
  - >-
    Restarts, in the order given, the units whose programs or libraries were replaced, or that run
    since before one of O(files) changed.
options:
  units:
    description: The units.
    type: list
    elements: str
    required: true
  files:
    description: Files and links that these units read when they start.
    type: list
    elements: path
    default: []
"""

RESTART_TIMEOUT_S = 120


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    files = [Path(path) for path in module.params["files"]]
    stale = [
        unit
        for unit in module.params["units"]
        if runs_replaced(unit) or started_before(unit, files)
    ]
    for unit in stale if not module.check_mode else []:
        done = subprocess.run(
            ["systemctl", "restart", unit],
            capture_output=True,
            text=True,
            check=False,
            timeout=RESTART_TIMEOUT_S,
        )
        if done.returncode:
            module.fail_json(msg=f"{unit} does not start again: {done.stderr.strip()}")
    names = "".join(f"{unit}\n" for unit in stale)
    module.exit_json(changed=bool(stale), renewed=stale, diff={"before": names, "after": ""})


if __name__ == "__main__":
    main()
