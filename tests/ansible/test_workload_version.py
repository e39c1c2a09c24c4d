"""What workloads run is read in one call, and one that cannot be read hides no other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.ansible.plugins import plugin

looks = plugin("modules", "workload_version")


def workload(running: str) -> SimpleNamespace:
    found = SimpleNamespace(
        spec=SimpleNamespace(replicas=3), status=SimpleNamespace(ready_replicas=None)
    )
    return SimpleNamespace(running=running, found=found, is_stateful=True, is_whole=False)


def test_workloads_are_told_in_the_order_asked_for():
    found, lacking = looks.looked_at(["iam", "atlas"], lambda name: workload(f"1 of {name}"))
    assert lacking == []
    assert found == [
        {
            "name": name,
            "running": f"1 of {name}",
            "pods": 3,
            "pods_ready": 0,
            "stateful": True,
            "whole": False,
        }
        for name in ("iam", "atlas")
    ]


@pytest.mark.parametrize("error", [looks.RolloutError("there is none"), ApiException(status=500)])
def test_one_that_cannot_be_read_is_named_and_the_others_are_told(error: Exception):
    def workload_of(name: str) -> SimpleNamespace:
        if name == "iam":
            raise error
        return workload("1")

    found, lacking = looks.looked_at(["iam", "atlas"], workload_of)
    assert [row["name"] for row in found] == ["atlas"]
    assert len(lacking) == 1
    assert lacking[0].startswith("iam: ")


def test_when_nothing_answers_nobody_else_is_asked():
    asked: list[str] = []

    def workload_of(name: str) -> SimpleNamespace:
        asked.append(name)
        raise HTTPError("timed out")

    assert looks.looked_at(["iam", "atlas"], workload_of) == ([], ["iam: timed out"])
    assert asked == ["iam"]
