"""The inventory plugin finds the store's description and turns it into groups and variables."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.ansible.playbook import BIN, EXAMPLE_INVENTORY, ROOT, environment


def listed(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    found = environment() | {"OBJECTSTORE_STATE_DIR": str(tmp_path)}
    for name in ("OBJECTSTORE_INVENTORY", "OBJECTSTORE_STORE"):
        found.pop(name, None)
    return subprocess.run(
        [str(BIN / "ansible-inventory"), "--list"],
        cwd=ROOT,
        env=found | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def plain(value: object) -> object:
    """Ansible marks what comes from outside, so that it is never read as a template."""
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def put(tmp_path: Path, *stores: str) -> None:
    for store in stores:
        folder = tmp_path / "stores" / store
        folder.mkdir(parents=True)
        (folder / "inventory.json").write_text(EXAMPLE_INVENTORY.read_text())


def test_the_only_store_of_this_machine_is_taken(tmp_path: Path):
    put(tmp_path, "abc-oss")
    done = listed(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["default"]["hosts"] == [f"abc-oss-default-{n}" for n in range(3)]
    assert found["envoy"]["hosts"] == ["abc-oss-envoy-1"]
    data = found["_meta"]["hostvars"]["abc-oss-default-0"]
    assert plain(data["ansible_host"]) == "192.0.2.10"
    assert data["objectstore_vm"]["memory_mib"] == 8192
    assert plain(data["objectstore_name"]) == "abc-oss"


def test_several_stores_must_be_told_apart(tmp_path: Path):
    put(tmp_path, "abc-oss", "xyz-oss")
    refused = listed(tmp_path)
    assert refused.returncode != 0
    assert "abc-oss, xyz-oss" in refused.stderr
    assert listed(tmp_path, OBJECTSTORE_STORE="xyz-oss").returncode == 0


def test_a_file_can_be_named(tmp_path: Path):
    assert listed(tmp_path, OBJECTSTORE_INVENTORY=str(EXAMPLE_INVENTORY)).returncode == 0


def test_the_stacks_own_output_can_be_asked(tmp_path: Path):
    output = {"ansible_inventory": json.loads(EXAMPLE_INVENTORY.read_text())}
    command = tmp_path / "objectstore"
    command.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps(output)}\nE\n")
    command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = listed(tmp_path, OBJECTSTORE_INVENTORY="stack", PATH=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["default"]["hosts"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"_meta": {"hostvars": {}}, "default": {}}'])
def test_what_is_no_inventory_is_refused_with_its_name(tmp_path: Path, content: str):
    file = tmp_path / "wrong.json"
    file.write_text(content)
    done = listed(tmp_path, OBJECTSTORE_INVENTORY=str(file))
    assert done.returncode != 0
    assert "wrong.json" in done.stderr


def test_no_store_at_all_says_how_to_get_one(tmp_path: Path):
    done = listed(tmp_path)
    assert done.returncode != 0
    assert "make up" in done.stderr
