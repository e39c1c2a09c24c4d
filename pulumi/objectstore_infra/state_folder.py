"""Where the operator's side keeps files per store: `$OBJECTSTORE_STATE_DIR/stores/NAME/`.

    inventory.json   the nodes, as Ansible's dynamic inventory; holds secrets
    id_ed25519       the key to the nodes
    known_hosts      the nodes' host keys, as seen when they were made
    ansible-*.log    the output of each playbook's last run

The folder is readable by its owner alone. Ansible's roles add files of theirs: certificates, the
kubeconfig, the keys of Ceph's users.
"""

from __future__ import annotations

import os
from pathlib import Path

INVENTORY = "inventory.json"
PRIVATE_KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"


def state_folder() -> Path:
    """Return the operator's state folder."""
    given = os.environ.get("OBJECTSTORE_STATE_DIR")
    return Path(given).absolute() if given else Path.home() / ".local" / "state" / "objectstore"


def store_folder(store: str) -> Path:
    """Return the folder of one store."""
    return state_folder() / "stores" / store


def write_new(file: Path, content: bytes) -> None:
    """Write a new file, readable by its owner alone; returns when it is durable.

    Raises FileExistsError rather than write over another one.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(scratch, file)
    finally:
        scratch.unlink()
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_private(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner alone."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    scratch.replace(file)
