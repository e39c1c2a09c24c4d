"""What the health check concludes of the platform's nodes and of addresses that move."""

from __future__ import annotations

import pytest

from tests.ansible.plugins import plugin

health = plugin("filter", "objectstore_health")

NOW = 1000.0


def look(**changes: object) -> dict:
    facts = {
        "units": {"kubelet.service": "active (running)"},
        "clock": 1001.0,
        "free_bytes": {"/var/lib": 50 << 30},
        "addresses": ["192.0.2.10", "192.0.2.29"],
        "backends": {"10.244.0.3": {"flags": [], "requests_active": 0}},
    }
    return facts | changes


def reds(findings: list[dict]) -> list[str]:
    assert all(bool(one["next_step"]) is not one["ok"] for one in findings)
    return [one["check"] for one in findings if not one["ok"]]


def test_a_node_that_is_well_has_no_red_row():
    assert reds(health.platform_health(look(), "n", NOW)) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"units": {"kubelet.service": "failed (failed)"}}, "services"),
        ({"clock": 1100.0}, "clock"),
        ({"clock": 900.0}, "clock"),
        ({"free_bytes": {"/var/lib": 1 << 20}}, "space"),
        ({"unreachable": True, "msg": "no route"}, "reachable over SSH"),
    ],
)
def test_each_fault_of_a_node_is_named_with_its_next_step(changes: dict, check: str):
    assert reds(health.platform_health(look(**changes), "n", NOW)) == [check]


def test_an_envoy_needs_pods_that_are_well():
    assert reds(health.backends(look(), "e")) == []
    ill = {"10.244.0.3": {"flags": ["failed_active_health_check"], "requests_active": 0}}
    assert reds(health.backends(look(backends=ill), "e")) == ["pods behind Envoy"]
    assert reds(health.backends(look(backends={}), "e")) == ["pods behind Envoy"]
    assert health.backends({"unreachable": True}, "e") == []


def test_each_address_needs_one_owner():
    wanted = {"management address": ["192.0.2.29"]}
    two = {"a": look(), "b": look()}
    nobody = {"a": look(addresses=[]), "b": {"unreachable": True}}
    assert reds(health.addresses({"a": look(), "b": look(addresses=[])}, wanted)) == []
    for looks in (two, nobody):
        assert reds(health.addresses(looks, wanted)) == ["management address 192.0.2.29"]
