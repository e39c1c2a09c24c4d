"""What the playbooks conclude from what they see."""

from __future__ import annotations

import os

import pytest
from ansible.errors import AnsibleFilterError

from tests.ansible.plugins import plugin

judge = plugin("filter", "objectstore")
upgrade = plugin("filter", "objectstore_upgrade")

PREFIX = "/opt/objectstore"
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
        "current": {PREFIX: "1.0.0"},
        "installed": {PREFIX: ["1.0.0"]},
        "live": {"http": 200, "version": "1.0.0", "error": ""},
        "ready": {"http": 200, "checks": {"writer": {"ok": True}}, "error": ""},
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
    for found in (
        judge.precheck(facts, "n", WANTED),
        judge.store_health(facts, "n", {}),
        judge.entry_health(facts, "n", {}),
    ):
        assert reds(found) == ["reachable over SSH"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"units": {"objectstore.service": "failed (Result: exit-code)"}}, "service"),
        ({"current": {PREFIX: "2.0.0"}}, "version"),
        ({"live": {"http": 0, "error": "refused"}}, "version"),
        ({"ready": {"http": 503, "error": "", "checks": {}}}, "ready"),
        ({"listening": [{"address": ANY, "port": 8080}]}, "nothing else listens"),
    ],
)
def test_what_is_wrong_with_a_store_is_red(changes: dict, check: str):
    wanted = {"prefix": PREFIX, "port": 7200, "cluster_port": 7201}
    assert reds(judge.store_health(look(**changes), "n", wanted)) == [check]


def test_the_reason_of_a_node_that_is_not_ready_is_shown():
    checks = {"upstream": {"ok": False, "reason": "no answer"}, "tls": {"ok": True}}
    facts = look(ready={"http": 503, "error": "", "checks": checks})
    lines = judge.report(judge.store_health(facts, "n", {"prefix": PREFIX, "port": 7200}))
    assert any(line.startswith("RED") and "upstream: no answer" in line for line in lines)


def test_the_cluster_port_is_ours_on_the_data_node_only():
    facts = look(listening=[{"address": "192.0.2.10", "port": 7201}])
    data = {"prefix": PREFIX, "port": 7200, "cluster_port": 7201}
    front_end = {"prefix": PREFIX, "port": 7200, "cluster_port": 0}
    assert reds(judge.store_health(facts, "n", data)) == []
    assert reds(judge.store_health(facts, "n", front_end)) == ["nothing else listens"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"addresses": []}, "client addresses"),
        ({"units": {"envoy.service": "absent"}}, "service"),
        ({"backends": {}}, "sends to d0"),
        ({"backends": {"error": {"flags": ["refused"]}}}, "sends to d0"),
        ({"backends": {"192.0.2.10": {"flags": ["draining"]}}}, "sends to d0"),
    ],
)
def test_what_is_wrong_with_an_entry_is_red(changes: dict, check: str):
    wanted = {
        "client_addresses": ["192.0.2.40"],
        "port": 7200,
        "backends": {"192.0.2.10": "d0"},
    }
    assert reds(judge.entry_health(look(), "e", wanted)) == []
    assert reds(judge.entry_health(look(**changes), "e", wanted)) == [check]


def looks(**versions: str) -> dict:
    return {name: look(live={"version": version}) for name, version in versions.items()}


def test_front_ends_are_upgraded_before_the_data_node():
    rows = upgrade.plan(looks(d0="1.0", d1="1.0", d2="1.0"), "1.1", PREFIX, "d0")
    assert [(row["node"], row["role"]) for row in rows] == [
        ("d1", "front end"),
        ("d2", "front end"),
        ("d0", "data"),
    ]


def test_a_second_run_goes_on_where_the_first_one_stopped():
    rows = upgrade.plan(looks(d0="1.0", d1="1.1", d2="1.0"), "1.1", PREFIX, "d0")
    assert {row["node"]: row["action"] for row in rows} == {
        "d1": "up to date",
        "d2": "upgrade",
        "d0": "upgrade",
    }


@pytest.mark.parametrize(
    ("running", "version", "action"),
    [
        ("1.9.0", "1.10.0", "upgrade"),
        ("1.10.0", "1.9.0", "downgrade"),
        ("1.0.0+src.aaa", "1.0.0+src.bbb", "upgrade"),
        ("1.1.0rc1", "1.1.0", "upgrade"),
        ("1.1.0", "1.1.0rc1", "downgrade"),
        ("", "1.0.0", "upgrade"),
    ],
)
def test_releases_are_compared_as_versions(running: str, version: str, action: str):
    rows = upgrade.plan(looks(d0=running), version, PREFIX, "d0")
    assert rows[0]["action"] == action


def test_what_is_no_version_is_refused():
    with pytest.raises(AnsibleFilterError, match="no version"):
        upgrade.plan(looks(d0="1.0"), "latest", PREFIX, "d0")


@pytest.mark.parametrize(
    ("running", "bundles", "said"),
    [
        ({"d0": "1.0"}, ["1.0", "1.1"], "upgrade to 1.1"),
        ({"d0": "1.1"}, ["1.0", "1.1"], "no newer release"),
        ({"d0": "1.1", "d1": "1.0"}, ["1.1"], "upgrade to 1.1"),
        ({"d0": "1.1+a", "d1": "1.1+b"}, ["1.1"], "finish the upgrade"),
        ({"d0": ""}, ["1.0"], "make up"),
    ],
)
def test_the_recommendation_fits(running: dict, bundles: list[str], said: str):
    rows = upgrade.plan(looks(**running), "", PREFIX, "d0")
    assert said in upgrade.inventory_text(rows, bundles)[-1]


def test_the_report_says_what_moved_from_which_version_to_which():
    before = upgrade.plan(looks(d0="1.0", d1="1.0", d2="1.1"), "1.1", PREFIX, "d0")
    after = looks(d0="1.0", d1="1.1", d2="1.1")
    result = upgrade.outcome(before, after, "abc-oss", "1.1", "stopped at d0", "gate", "/f.json")
    states = {node["node"]: (node["from"], node["to"], node["state"]) for node in result["nodes"]}
    assert states == {
        "d1": ("1.0", "1.1", "upgraded"),
        "d2": ("1.1", "1.1", "was up to date"),
        "d0": ("1.0", "1.0", "as before"),
    }
    assert any("cause: gate" in line for line in upgrade.report_text(result))


def test_a_live_run_keeps_its_lock_and_a_dead_one_loses_it():
    mine = upgrade.run_identity(None)
    assert mine["pid"] == os.getpid()
    assert not upgrade.run_is_dead(mine)
    assert upgrade.run_is_dead(mine | {"born": "another boot/1"})
    assert not upgrade.run_is_dead(mine | {"host": "elsewhere", "born": "x"})
    assert not upgrade.run_is_dead({})
