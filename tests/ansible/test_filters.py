"""What the playbooks conclude from what they see."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from tests.ansible.plugins import plugin

judge = plugin("filter", "objectstore")

ANY = "::"
GUEST = {"python": "3.13", "machine": "x86_64"}
WANTED = {
    "guest": GUEST,
    "clock_skew_s": -1.0,
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


@pytest.mark.parametrize("skew", [1200.0, -1200.0])
def test_a_clock_that_is_off_is_named(skew: float):
    assert reds(judge.precheck(look(), "n", WANTED | {"clock_skew_s": skew})) == ["clock"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    ("clock", "skew"), [(999, -1), (1000, 0), (1035, 0), (1040, 0), (1042, 2), (4600, 3560)]
)
def test_a_clock_is_right_that_was_read_between_question_and_verdict(
    clock: float, skew: float, zone: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    facts = {"asked": "1970-01-01T00:16:40", "clock": clock}
    verdict = datetime(1970, 1, 1, 0, 17, 20)
    try:
        assert judge.clock_skew(facts, verdict) == skew
        assert judge.clock_skew({"unreachable": True}, verdict) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"os": {"id": "alpine", "version_id": "3"}}, "system"),
        ({"python": "3.11"}, "Python and machine"),
        ({"machine": "aarch64"}, "Python and machine"),
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
