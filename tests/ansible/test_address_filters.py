"""Which nodes share the addresses that move, and who has them first."""

from __future__ import annotations

from collections import Counter

from tests.ansible.plugins import plugin

addresses = plugin("filter", "objectstore_addresses")

CLIENTS = ["192.0.2.40", "192.0.2.41", "192.0.2.42", "192.0.2.43"]
CHECK = "http://127.0.0.1:7204/"


def holders(envoys: list[str]) -> list[list[str]]:
    found = addresses.client_address_instances(CLIENTS, envoys, CHECK)
    assert [instance["address"] for instance in found] == CLIENTS
    assert [instance["id"] for instance in found] == [100, 101, 102, 103]
    return [instance["holders"] for instance in found]


def test_one_envoy_has_every_client_address():
    assert holders(["a"]) == [["a"]] * 4


def test_client_addresses_are_spread_over_the_envoys():
    for envoys in (["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]):
        found = holders(envoys)
        firsts = Counter(order[0] for order in found)
        assert max(firsts.values()) - min(firsts.values()) <= 1
        assert all(sorted(order) == envoys for order in found)


def test_the_addresses_of_an_envoy_that_is_gone_are_spread_over_the_rest():
    found = addresses.client_address_instances([*CLIENTS, "x", "y"], ["a", "b", "c"], CHECK)
    taken_over = [one["holders"][1] for one in found if one["holders"][0] == "a"]
    assert sorted(taken_over) == ["b", "c"]
