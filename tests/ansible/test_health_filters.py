"""What the health check concludes of the platform's nodes and of addresses that move."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.ansible.playbook import BIN, ROOT, environment
from tests.ansible.plugins import plugin

health = plugin("filter", "objectstore_health")

RIGHT_S = 0.0


def look(**changes: object) -> dict:
    facts = {
        "units": {"kubelet.service": "active (running)"},
        "free_bytes": {"/var/lib": 50 << 30},
        "addresses": ["192.0.2.10", "192.0.2.29"],
        "backends": {"10.244.0.3": {"flags": [], "requests_active": 0}},
    }
    return facts | changes


def reds(findings: list[dict]) -> list[str]:
    assert all(bool(one["next_step"]) is not one["ok"] for one in findings)
    return [one["check"] for one in findings if not one["ok"]]


def test_a_node_that_is_well_has_no_red_row():
    assert reds(health.platform_health(look(), "n", RIGHT_S)) == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"units": {"kubelet.service": "failed (failed)"}}, "services"),
        ({"free_bytes": {"/var/lib": 1 << 20}}, "space"),
        ({"unreachable": True, "msg": "no route"}, "reachable over SSH"),
    ],
)
def test_each_fault_of_a_node_is_named_with_its_next_step(changes: dict, check: str):
    assert reds(health.platform_health(look(**changes), "n", RIGHT_S)) == [check]


@pytest.mark.parametrize("skew", [100.0, -100.0])
def test_a_clock_that_is_off_is_named(skew: float):
    assert reds(health.platform_health(look(), "n", skew)) == ["clock"]


INVENTORY = {"default": {"hosts": {"localhost": {"ansible_connection": "local"}}}, "envoy": {}}
LOOK = [
    {
        "hosts": "localhost",
        "tasks": [
            {"import_tasks": str(ROOT / "playbooks" / "tasks" / "look.yml")},
            {"debug": {"msg": "skew {{ node_look | clock_skew(now(utc=true)) }}"}},
        ],
    }
]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_clock_is_right_wherever_the_operator_is(zone: str, tmp_path: Path):
    (tmp_path / "inventory.yml").write_text(json.dumps(INVENTORY))
    (tmp_path / "look.yml").write_text(json.dumps(LOOK))
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", tmp_path / "inventory.yml", tmp_path / "look.yml"],
        cwd=ROOT,
        env={**environment(), "TZ": zone},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "skew 0.0" in done.stdout, done.stdout + done.stderr


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
