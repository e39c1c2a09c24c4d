"""Ansible module: programs of the bundle lie where they are run from.

A file is copied when its size or its time differs from the source's, which the copy takes over; so
hundreds of megabytes need not be read to see that nothing is to do. The old file is replaced by
renaming: a program that runs goes on with what it started from.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: executables_installed
short_description: Programs of the bundle lie where they are run from
description:
  - Copies files on the node and makes them executable.
options:
  sources:
    description: The programs.
    type: list
    elements: path
    required: true
  directory:
    description: The folder that they are run from.
    type: path
    default: /usr/local/bin
"""

MODE = 0o755


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "list", "elements": "path", "required": True},
            "directory": {"type": "path", "default": "/usr/local/bin"},
        },
        supports_check_mode=True,
    )
    sources = [Path(source) for source in module.params["sources"]]
    directory = Path(module.params["directory"])
    absent = [str(source) for source in sources if not source.is_file()]
    if absent and not module.check_mode:
        module.fail_json(msg=f"the node lacks {', '.join(absent)}: the bundle's roles bring them")
    wanted = [source for source in sources if not is_installed(source, directory / source.name)]
    if not module.check_mode:
        for source in wanted:
            install(source, directory / source.name)
    names = "".join(f"{directory / source.name}\n" for source in wanted)
    module.exit_json(
        changed=bool(wanted),
        installed=[source.name for source in wanted],
        diff={"before": "", "after": names},
    )


def is_installed(source: Path, target: Path) -> bool:
    try:
        here, there = source.stat(), target.stat()
    except FileNotFoundError:
        return False
    same = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
    return same and there.st_mode & 0o777 == MODE


def install(source: Path, target: Path) -> None:
    incoming = target.with_name(f".{target.name}.incoming")
    shutil.copy2(source, incoming)
    incoming.chmod(MODE)
    os.replace(incoming, target)


if __name__ == "__main__":
    main()
