"""Who should have which shard."""

from __future__ import annotations

import random

import pytest

from objectstore_app.config.balance import balance, leads, successors
from objectstore_app.config.coordination import Claim, Plan, PodRecord, Seen

SHARDS = tuple(f"shard-{number:03d}" for number in range(3))
PODS = ("a", "b", "c")


def seen(
    *pods: str, leaving: str = "", unready: str = "", plans: str = "", claims: str = ""
) -> Seen:
    """Pods by name in the order they came; `plans` and `claims` are a letter a shard."""
    return Seen(
        pods={
            name: PodRecord(
                pod=name, service="metadata", address=name, leaving=name in leaving,
                ready=() if name in unready else SHARDS, since=number,
            )
            for number, name in enumerate(pods)
        },
        plans={
            shard: Plan(owner=name) for shard, name in zip(SHARDS, plans, strict=False)
        },
        claims={
            shard: Claim(name, current=False) for shard, name in zip(SHARDS, claims, strict=False)
        },
    )  # fmt: skip


def owners(found: Seen) -> str:
    return "".join(plan.owner for plan in balance(found, "metadata", SHARDS).values())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (seen(*PODS), "abc"),
        (seen("a"), "aaa"),
        (seen(*PODS, plans="cba"), "cba"),  # nothing moves without need
        (seen("a", "b", plans="aab"), "aab"),  # one more than another is no need
        (seen(*PODS, plans="aab"), "cab"),  # two more is
        (seen(*PODS, plans="aaa", unready="bc"), "aaa"),  # and to nobody who is not ready
        (seen("b", "c", plans="abc", claims="cbc"), "cbc"),  # who claimed what a dead pod had
        (seen("b", "c", plans="abc"), "bbc"),
        (seen(*PODS, plans="abc", leaving="a"), "bbc"),
        (seen(*PODS, plans="abc", leaving="abc"), "abc"),  # nobody stays
        (seen(plans="abc"), "abc"),
    ],
)
def test_owners(found: Seen, expected: str) -> None:
    assert owners(found) == expected


def test_shards_of_a_pod_that_has_all_go_to_those_that_have_none() -> None:
    assert sorted(owners(seen(*PODS, plans="aaa"))) == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(50))
def test_plan_of_a_plan_is_itself_and_even(seed: int) -> None:
    rng = random.Random(seed)
    names = rng.sample("abcdef", rng.randint(1, 6))
    found = seen(*names, plans="".join(rng.choice("abcdef") for _ in SHARDS))
    plans = balance(found, "metadata", SHARDS)
    again = Seen(pods=found.pods, plans=plans, versions={}, claims=found.claims)
    assert balance(again, "metadata", SHARDS) == plans
    loads = [sum(plan.owner == name for plan in plans.values()) for name in names]
    assert max(loads) - min(loads) <= 1
    for plan in plans.values():
        assert plan.standby != plan.owner
        assert bool(plan.standby) == (len(names) > 1)


def test_standbys_of_a_pods_shards_are_spread() -> None:
    plans = balance(seen("a", "b", "c", "d"), "metadata", SHARDS)
    assert len({plan.standby for plan in plans.values()}) == 3


def test_first_that_stays_leads() -> None:
    found = seen("b", "a", "c")
    assert [leads(found, "metadata", name) for name in PODS] == [False, True, False]
    found = seen("b", "a", "c", leaving="b")
    assert [leads(found, "metadata", name) for name in PODS] == [True, False, False]
    assert not leads(found, "iam", "a")


def test_successors_are_ready_and_in_the_plans_order() -> None:
    found = Seen(
        pods=seen("a", "b", "c", "d", leaving="d", unready="a").pods,
        plans={SHARDS[0]: Plan(owner="a", standby="c")},
    )
    assert successors(found, "metadata", SHARDS[0]) == ["c", "b"]
    assert successors(found, "metadata", SHARDS[1]) == ["b", "c"]
    assert successors(found, "iam", SHARDS[0]) == []
