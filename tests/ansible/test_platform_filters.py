"""Nodes' numbers, and the subnets of the pod network that follow from them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from tests.ansible.plugins import plugin

platform = plugin("filter", "objectstore_platform")

ADDRESSES = [f"192.0.2.{last}" for last in range(10, 28)]


def test_a_nodes_number_is_the_place_of_its_address():
    assert platform.node_number("192.0.2.10", ADDRESSES) == 0
    assert platform.node_number("192.0.2.27", ADDRESSES) == 17


def test_an_address_that_is_not_the_stores_has_no_number():
    with pytest.raises(AnsibleFilterError, match=r"192\.0\.2\.99 is none of"):
        platform.node_number("192.0.2.99", ADDRESSES)


def test_each_node_has_a_subnet_of_its_own():
    subnets = {platform.pod_subnet(number, "10.244.0.0/16") for number in range(18)}
    assert len(subnets) == 18
    assert platform.pod_subnet(3, "10.244.0.0/16") == "10.244.3.0/24"
    assert platform.pod_subnet(3, "10.8.128.0/20") == "10.8.131.0/24"


def test_a_pod_network_too_small_for_a_node_is_refused():
    assert platform.pod_subnet(15, "10.8.0.0/20") == "10.8.15.0/24"
    with pytest.raises(AnsibleFilterError, match="no subnet for node 16"):
        platform.pod_subnet(16, "10.8.0.0/20")


def test_a_node_has_routes_to_all_others_and_none_to_itself():
    hostvars = {
        f"n{number}": {
            "objectstore_pod_subnet": f"10.244.{number}.0/24",
            "objectstore_vm": {"addresses": [f"192.0.2.1{number}"]},
        }
        for number in range(3)
    }
    assert platform.pod_routes(hostvars, ["n0", "n1", "n2"], "n1") == [
        {"subnet": "10.244.0.0/24", "address": "192.0.2.10"},
        {"subnet": "10.244.2.0/24", "address": "192.0.2.12"},
    ]


def test_addresses_within_a_network_are_found():
    assert platform.addresses_within(["10.244.9.1", "192.0.2.1"], "10.244.0.0/16") == ["10.244.9.1"]


def rules(**policy: object) -> dict:
    default = {"to": "metadata", "ports": [7201], "protocol": "tcp", "from": ["pods"]}
    return platform.packet_rules([default | policy])


def test_applications_are_pods_to_the_packet_filter():
    wanted = ['ip saddr @pods tcp dport { 7201 } accept comment "metadata"']
    assert rules(**{"from": ["atlas", "iam"]})["pods"] == wanted
    assert rules(**{"from": ["pods"]})["pods"] == wanted


def test_each_kind_of_source_has_a_rule():
    assert rules(**{"from": ["atlas", "nodes", "envoys"]})["pods"] == [
        f'ip saddr @{kind} tcp dport {{ 7201 }} accept comment "metadata"'
        for kind in ("envoys", "nodes", "pods")
    ]


def test_anywhere_is_no_match_at_all():
    found = rules(**{"from": ["anywhere", "pods"]})["pods"]
    assert found == ['tcp dport { 7201 } accept comment "metadata"']


def test_ports_of_nodes_are_gathered_and_those_of_pods_are_not():
    found = rules(to="nodes", ports=[3300, "6800-6899"])
    assert found["pods"] == []
    assert found["nodes"] == ['ip saddr @pods tcp dport { 3300, 6800-6899 } accept comment "nodes"']
    assert found["node_ports"] == {"tcp": "3300, 6800-6899"}
    assert rules()["node_ports"] == {}


def looks(*members: str, holder: str = "", nodes: tuple[str, ...] = ("a", "b", "c", "d")) -> dict:
    return {
        node: {"member": node in members, "addresses": ["192.0.2.29"] if node == holder else []}
        for node in nodes
    }


def plan(found: dict) -> dict:
    return platform.cluster_plan(found, ["a", "b", "c"], "192.0.2.29")


def test_a_cluster_begins_on_the_node_that_holds_its_address():
    found = plan(looks(holder="b"))
    assert (found["members"], found["first"]) == ([], "b")
    assert found["joining"] == ["a", "c", "d"]


def test_new_nodes_join_those_that_are_members_whoever_holds_the_address():
    found = plan(looks("b", "c", holder="a"))
    assert (found["members"], found["first"]) == (["b", "c"], "b")
    assert found["joining"] == ["a", "d"]


def test_the_operators_access_comes_from_the_same_node_in_the_first_run_and_later():
    assert plan(looks(holder="b"))["asked"] == plan(looks("a", "b", "c"))["asked"] == "a"


def test_the_control_plane_joins_before_other_nodes():
    assert plan(looks("b", nodes=("d", "c", "b", "a")))["joining"] == ["c", "a", "d"]


def test_nothing_begins_while_a_node_that_may_be_a_member_is_not_looked_at():
    assert plan(looks(nodes=("a", "b", "d")))["first"] == ""
    assert plan(looks("b", nodes=("a", "b", "d")))["first"] == "b"
