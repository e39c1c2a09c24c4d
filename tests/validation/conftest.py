"""The deployment under validation: OBJECTSTORE_INVENTORY names its description.

Everything is seen from outside (addresses, ports, certificates) or over SSH with the store's own
key, never through the substrate: the same tests hold for any substrate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
import testinfra
from testinfra.host import Host


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.deployment)


CONNECT_TIMEOUT_S = 15


@dataclass(frozen=True)
class Store:
    """The store's description, as its stack wrote it."""

    description: dict[str, Any]
    folder: Path

    def __getattr__(self, name: str) -> Any:
        return self.description["all"]["vars"][f"objectstore_{name}"]

    def hosts(self, group: str) -> list[str]:
        return self.description[group]["hosts"]

    def variables(self, host: str) -> dict[str, Any]:
        return self.description["_meta"]["hostvars"][host]

    def address(self, host: str) -> str:
        return self.variables(host)["objectstore_vm"]["addresses"][0]


def read_store() -> Store | None:
    name = os.environ.get("OBJECTSTORE_INVENTORY")
    if not name:
        return None
    path = Path(name).expanduser()
    return Store(json.loads(path.read_text()), path.parent)


STORE = read_store()


@pytest.fixture(scope="session")
def store() -> Store:
    if STORE is None:
        pytest.skip("OBJECTSTORE_INVENTORY names no deployment")
    return STORE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`default_node`, `envoy_node` and `node` run a test once per VM of that kind."""
    groups = {"default_node": ["default"], "envoy_node": ["envoy"], "node": ["default", "envoy"]}
    for name, wanted in groups.items():
        if name in metafunc.fixturenames:
            hosts = [host for group in wanted for host in STORE.hosts(group)] if STORE else [""]
            metafunc.parametrize(name, hosts, scope="session")


@pytest.fixture(scope="session")
def shells(store: Store) -> Iterator[dict[str, Host]]:
    """One SSH connection per VM, over paramiko, only to the host keys that the stack recorded."""
    found = {}
    for group in ("default", "envoy"):
        for host in store.hosts(group):
            variables = store.variables(host)
            address, user = variables["ansible_host"], variables["ansible_user"]
            client = paramiko.SSHClient()
            client.load_host_keys(str(store.folder / "known_hosts"))
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            client.connect(
                address,
                username=user,
                key_filename=variables["ansible_ssh_private_key_file"],
                timeout=CONNECT_TIMEOUT_S,
                look_for_keys=False,
                allow_agent=False,
            )
            found[host] = testinfra.get_host(f"paramiko://{user}@{address}")
            # testinfra's own connection would accept any host key.
            found[host].backend.client = client
    yield found
    for shell in found.values():
        shell.backend.client.close()
