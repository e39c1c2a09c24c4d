"""The addresses that move between nodes: each has one owner, that is well, and the rest wait."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.promise("D5", "D7")


def owners(shells, nodes: list[str], address: str) -> list[str]:
    shown = {node: shells[node].check_output("ip -4 -oneline address show") for node in nodes}
    return [node for node, text in shown.items() if f" {address}/" in text]


def test_the_management_and_dns_addresses_are_no_infrastructure_addresses(store):
    assert store.management_address not in store.infrastructure_addresses
    assert store.dns_address not in store.infrastructure_addresses


@pytest.mark.parametrize("purpose", ["management_address", "dns_address"])
def test_one_default_node_owns_the_address(store, shells, purpose):
    address = getattr(store, purpose)
    assert len(owners(shells, store.hosts("default"), address)) == 1
    assert owners(shells, store.hosts("envoy"), address) == []


def test_one_envoy_owns_each_client_address(store, shells):
    for address in store.client_addresses:
        assert len(owners(shells, store.hosts("envoy"), address)) == 1
        assert owners(shells, store.hosts("default"), address) == []


def test_the_envoys_share_the_client_addresses_evenly(store, shells):
    envoys = store.hosts("envoy")
    found = [owners(shells, envoys, address)[0] for address in store.client_addresses]
    counts = [found.count(envoy) for envoy in envoys]
    assert max(counts) - min(counts) <= 1


def test_every_node_is_ready_to_take_addresses_over(shells, node):
    service = shells[node].service("keepalived")
    assert service.is_running
    assert service.is_enabled


def test_what_asks_the_services_can_be_written_by_root_alone(shells, node):
    for path in ("/etc/keepalived", "/etc/keepalived/answers", "/etc/keepalived/keepalived.conf"):
        file = shells[node].file(path)
        assert (file.user, file.mode & 0o022) == ("root", 0)
