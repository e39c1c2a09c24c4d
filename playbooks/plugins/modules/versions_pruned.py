"""Ansible module: of installed environments the current one and the one before it stay.

Each prefix holds a folder for each version and the link `current`. The one before is the newest of
the others. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: versions_pruned
short_description: Remove old environments
description:
  - Keeps the current version of each prefix and the newest of the others.
options:
  prefixes:
    description: Folders that hold one sub-folder per installed version and the link C(current).
    type: list
    elements: path
    required: true
"""

CURRENT = "current"


def main() -> None:
    module = AnsibleModule(
        argument_spec={"prefixes": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    old = [path for prefix in module.params["prefixes"] for path in superseded(Path(prefix))]
    try:
        for path in old if not module.check_mode else []:
            shutil.rmtree(path)
    except OSError as error:
        module.fail_json(msg=f"an old version cannot be removed: {error}")
    names = "".join(f"{path}\n" for path in old)
    module.exit_json(changed=bool(old), diff={"before": names, "after": ""})


def superseded(prefix: Path) -> list[Path]:
    """The folders of all versions but the current one and the newest of the others."""
    current = (prefix / CURRENT).resolve()
    if not current.is_dir():
        return []
    found = [
        path
        for path in prefix.iterdir()
        if path.is_dir() and not path.is_symlink() and path.resolve() != current
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime)[:-1]


if __name__ == "__main__":
    main()
