"""Inventory plugin: the nodes of a deployed store, from what its stack wrote or puts out.

The stack describes its nodes in Ansible's dynamic-inventory JSON. `up` keeps that description in
the operator's state folder; the same JSON is the stack's output `ansible_inventory`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: objectstore_stack
short_description: The nodes of a deployed object store
description:
  - Reads the description of a store's nodes that its stack made, in dynamic-inventory JSON.
options:
  plugin:
    description: Marks a file as this plugin's.
    required: true
    choices: [objectstore_stack]
  source:
    description:
      - Path of the JSON file, or C(stack) to ask the stack for its output.
      - When it is not given, the file of O(store) in the state folder is read.
    type: str
    env:
      - name: OBJECTSTORE_INVENTORY
  store:
    description: Name of the store. Needed only when the state folder holds several.
    type: str
    env:
      - name: OBJECTSTORE_STORE
  stack:
    description: Name of the stack to ask when O(source) is C(stack).
    type: str
    default: local
    env:
      - name: OBJECTSTORE_STACK
  state_dir:
    description: The operator's state folder.
    type: str
    default: ~/.local/state/objectstore
    env:
      - name: OBJECTSTORE_STATE_DIR
"""

SUFFIX = "objectstore.yml"
STACK_TIMEOUT_S = 120


class InventoryModule(BaseInventoryPlugin):
    """Turns the stack's description of its nodes into groups, hosts and variables."""

    NAME = "objectstore_stack"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(SUFFIX)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        source = self.get_option("source")
        if source == "stack":
            description = read_stack(self.get_option("stack"))
        else:
            state_dir = Path(self.get_option("state_dir")).expanduser()
            file = Path(source) if source else find_file(state_dir, self.get_option("store"))
            description = read_file(file)
        self._fill(description)

    def _fill(self, description: dict[str, Any]) -> None:
        hostvars = description.get("_meta", {}).get("hostvars", {})
        for name, group in description.items():
            if name == "_meta":
                continue
            self.inventory.add_group(name)
            for host in group.get("hosts", []):
                self.inventory.add_host(host, group=name)
            for child in group.get("children", []):
                self.inventory.add_group(child)
                self.inventory.add_child(name, child)
            for key, value in group.get("vars", {}).items():
                self.inventory.set_variable(name, key, value)
        for host, variables in hostvars.items():
            for key, value in variables.items():
                self.inventory.set_variable(host, key, value)


def find_file(state_dir: Path, store: str | None) -> Path:
    """The description of `store`, or of the only store there is."""
    if store:
        return state_dir / "stores" / store / "inventory.json"
    found = sorted(state_dir.glob("stores/*/inventory.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise AnsibleParserError(
            f"no store was deployed from this machine: {state_dir}/stores holds no inventory.json. "
            "Deploy one with `make up`, or name a file with OBJECTSTORE_INVENTORY."
        )
    names = ", ".join(file.parent.name for file in found)
    raise AnsibleParserError(f"several stores are here ({names}): choose with OBJECTSTORE_STORE")


def read_file(file: Path) -> dict[str, Any]:
    try:
        text = file.expanduser().read_text()
    except OSError as error:
        raise AnsibleParserError(f"cannot read the inventory {file}: {error.strerror}") from error
    return checked(text, str(file))


def read_stack(stack: str) -> dict[str, Any]:
    """Ask the stack itself, secrets included: the nodes need the first administrator's keys."""
    command = ["objectstore", "stack", "output", "--stack", stack, "--json", "--show-secrets"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=STACK_TIMEOUT_S,
            env=os.environ,
        )
    except FileNotFoundError as error:
        raise AnsibleParserError("the `objectstore` command is not on the PATH") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or str(error)).strip()
        raise AnsibleParserError(f"stack {stack} gave no output: {said}") from error
    return checked(done.stdout, f"the output of stack {stack}", key="ansible_inventory")


def checked(text: str, origin: str, key: str | None = None) -> dict[str, Any]:
    """The JSON object in `text`, or in its member `key`, that describes at least one node."""
    try:
        value = json.loads(text)
        if key:
            value = value[key]
        if isinstance(value, str):
            value = json.loads(value)
        value["_meta"]["hostvars"]
    except (ValueError, KeyError, TypeError) as error:
        raise AnsibleParserError(f"{origin} is not an inventory of a store: {error!r}") from error
    if not isinstance(value, dict) or not value.get("default", {}).get("hosts"):
        raise AnsibleParserError(f"{origin} names no node in its group `default`")
    return value
