"""What Ceph's daemons and clients read is what the role's templates say, line by line."""

from __future__ import annotations

import json
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.ansible.playbook import EXAMPLE_INVENTORY, ROOT, run

TEMPLATES = ROOT / "roles" / "ceph" / "templates"
VARIABLES = {
    "ansible_managed": "by a test",
    "ceph_fsid": "1ba811e3-48e9-5100-97b7-a0f1183a8160",
    "ceph_address": "192.0.2.10",
    "ceph_monitors": [{"address": "192.0.2.10"}, {"address": "192.0.2.11"}],
    "ceph_osd_memory_mib": 1024,
    "ceph_osd_size_gib": 20,
    "_ceph_manager_modules": "/none",
}


def written(name: str, folder: Path) -> ConfigParser:
    target = folder / name
    arguments = json.dumps({"src": str(TEMPLATES / f"{name}.j2"), "dest": str(target)})
    outcome = run(
        *("ansible", "localhost", "-c", "local", "-m", "ansible.builtin.template"),
        *("-a", arguments, "-e", json.dumps(VARIABLES)),
        inventory=EXAMPLE_INVENTORY,
    )
    assert outcome.code == 0, outcome.output
    parser = ConfigParser(strict=True, interpolation=None)
    parser.read_string(target.read_text())
    return parser


@pytest.mark.parametrize("name", ["ceph.conf", "client.conf"])
def test_daemons_and_clients_look_for_newer_maps_after_a_second(name: str, tmp_path: Path):
    settings = written(name, tmp_path)["global"]
    assert settings["fsid"] == VARIABLES["ceph_fsid"]
    for name in ("mon client ping interval", "mon client hunt interval", "objecter timeout"):
        assert settings[name] == "1"


def test_clients_have_their_key_where_pods_find_it(tmp_path: Path):
    settings = written("client.conf", tmp_path)["global"]
    assert settings["keyring"] == "/etc/ceph/keyring"


def test_daemons_believe_only_who_has_a_key(tmp_path: Path):
    settings = written("ceph.conf", tmp_path)["global"]
    for who in ("cluster", "service", "client"):
        assert settings[f"auth {who} required"] == "cephx"
