"""Ansible module: the keys of a store's Ceph cluster, made and kept by the operator.

Runs on the operator's machine. One keyring per name, in the store's folder, made once and never
changed; the cluster is given what is here. So the workloads' secrets are known before any node is.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import secrets
import struct
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: ceph_keys
short_description: The keys of a store's Ceph cluster
description:
  - Makes the keyrings that are missing in a folder of the operator's machine, and reads them all.
options:
  directory:
    description: The folder; made when it is missing.
    type: path
    required: true
  prefix:
    description: What the files' names begin with, before the name in Ceph.
    type: str
    required: true
  names:
    description: Names in Ceph.
    type: list
    elements: str
    required: true
  needed:
    description:
      - Names that have a key in a cluster that exists; where one is missing here, nothing is made.
    type: list
    elements: str
    default: []
"""

KEY_BYTES = 16
AES = 1


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "prefix": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "needed": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    folder, prefix = Path(module.params["directory"]), module.params["prefix"]
    try:
        refuse_new(folder, prefix, module.params["needed"])
        keys, made = ensure(folder, prefix, module.params["names"], check_mode=module.check_mode)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the keys in {folder} are not usable: {error}")
    module.exit_json(changed=bool(made), made=made, keys=keys)


def refuse_new(folder: Path, prefix: str, needed: list[str]) -> None:
    """Raises ValueError where a new key would lock us out of a cluster that has another one."""
    lost = [name for name in needed if not keyring(folder, prefix, name).is_file()]
    if lost:
        raise ValueError(
            f"the cluster exists, and the keys of {', '.join(lost)} are not here: new ones would "
            "fit nothing. Put the folder back from a backup: `make restore BACKUP=FILE`. Nothing "
            "was changed"
        )


def ensure(
    folder: Path, prefix: str, names: list[str], *, check_mode: bool
) -> tuple[dict[str, str], list[str]]:
    """Every name's key, and the names whose key is new. Raises ValueError."""
    if check_mode:
        return read_or_make(folder, prefix, names, keep=False)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return read_or_make(folder, prefix, names, keep=True)


def read_or_make(
    folder: Path, prefix: str, names: list[str], *, keep: bool
) -> tuple[dict[str, str], list[str]]:
    keys, made = {}, []
    for name in names:
        path = keyring(folder, prefix, name)
        if path.is_file():
            keys[name] = key_in(path, name)
            continue
        keys[name] = new_key()
        made.append(name)
        if keep:
            write(path, f"[{name}]\n\tkey = {keys[name]}\n")
    return keys, made


def keyring(folder: Path, prefix: str, name: str) -> Path:
    return folder / f"{prefix}.{name.rstrip('.')}.keyring"


def key_in(path: Path, name: str) -> str:
    found = re.fullmatch(r"\[(\S+)\]\s+key = (\S+)\s*", path.read_text())
    if not found or found[1] != name:
        raise ValueError(f"{path} is no keyring of {name} alone")
    return found[2]


def new_key() -> str:
    """A secret as Ceph writes it: type, time of making (seconds, nanoseconds), length, bytes."""
    head = struct.pack("<hiih", AES, int(time.time()), 0, KEY_BYTES)
    return base64.b64encode(head + secrets.token_bytes(KEY_BYTES)).decode()


def write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


if __name__ == "__main__":
    main()
