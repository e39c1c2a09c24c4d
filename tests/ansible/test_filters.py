"""What the playbooks conclude from what they see."""

from __future__ import annotations

import pytest

from tests.ansible.plugins import plugin

judge = plugin("filter", "objectstore")

ANY = "::"
GUEST = {"python": "3.13", "machine": "x86_64"}
WANTED = {
    "guest": GUEST,
    "now": 1000.0,
    "clock_skew_max_s": 60,
    "memory_mib": 8192,
    "paths": ["/opt"],
    "ports": [7200, 7201],
    "unit": "objectstore.service",
}


def look(**changes: object) -> dict:
    """A node that is well, with some things changed."""
    facts = {
        "os": {"id": "debian", "version_id": "13"},
        "python": "3.13",
        "machine": "x86_64",
        "clock": 1001.0,
        "memory_bytes": 8192 << 20,
        "free_bytes": {"/opt": 50 << 30},
        "listening": [{"address": ANY, "port": 22}],
        "units": {"objectstore.service": "active (running)", "envoy.service": "active (running)"},
        "addresses": ["192.0.2.40"],
        "backends": {"192.0.2.10": {"flags": [], "requests_active": 0}},
    }
    return facts | changes


def reds(findings: list[dict]) -> list[str]:
    return [found["check"] for found in findings if not found["ok"]]


def test_a_good_node_passes_the_prechecks():
    assert reds(judge.precheck(look(), "n", WANTED)) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"os": {"id": "alpine", "version_id": "3"}}, "system"),
        ({"python": "3.11"}, "Python and machine"),
        ({"machine": "aarch64"}, "Python and machine"),
        ({"clock": 2200.0}, "clock"),
        ({"clock": -200.0}, "clock"),
        ({"memory_bytes": 4096 << 20}, "memory"),
        ({"free_bytes": {"/opt": 1 << 20}}, "space"),
        (
            {
                "listening": [{"address": ANY, "port": 7200}],
                "units": {"objectstore.service": "absent"},
            },
            "ports",
        ),
    ],
)
def test_each_obstacle_is_named_with_its_next_step(changes: dict, check: str):
    findings = judge.precheck(look(**changes), "n", WANTED)
    assert reds(findings) == [check]
    assert all(found["next_step"] for found in findings if not found["ok"])


def test_a_port_held_by_our_own_service_is_no_obstacle():
    facts = look(listening=[{"address": ANY, "port": 7200}])
    assert reds(judge.precheck(facts, "n", WANTED)) == []


@pytest.mark.parametrize("facts", [{}, {"unreachable": True, "msg": "timed out"}, {"failed": True}])
def test_a_node_that_cannot_be_reached_is_one_red_finding(facts: dict):
    assert reds(judge.precheck(facts, "n", WANTED)) == ["reachable over SSH"]
