"""Coordination: the same tests in memory and on a real ensemble, then what only ZooKeeper has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from objectstore_app.config.coordination import Claim, Coordination, Identity, Plan, PodRecord
from objectstore_app.config.errors import CoordinationError, IdentityError
from objectstore_app.config.memory import Hall, MemoryCoordination
from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.config.shard_map import ShardOwner
from objectstore_app.config.zookeeper import ZooKeeper
from tests.ceph.cluster import wait_until
from tests.zookeeper.ensemble import SESSION_S, Ensemble

SHARD = "shard-000"
SHARDS = (SHARD, "shard-001")
IDENTITY = Identity(data_shards=2, region="us-east-1")
Join = Callable[[str], Coordination]


@pytest.fixture(params=["memory", "zookeeper"])
def join(request: pytest.FixtureRequest) -> Iterator[Join]:
    """Makes the session of a pod by name."""
    hall = Hall()
    settings = request.getfixturevalue("zookeeper") if request.param == "zookeeper" else None
    with ExitStack() as held:

        def enter(pod: str) -> Coordination:
            session = (
                MemoryCoordination(hall, pod) if settings is None else ZooKeeper(settings, pod)
            )
            session.start(lambda: None)
            held.callback(session.close)
            reached(lambda: session.look(SHARDS))
            return session

        yield enter


def reached(call: Callable[[], object]) -> None:
    """Call until the service answers."""

    def answers() -> bool:
        try:
            call()
        except CoordinationError:
            return False
        return True

    wait_until(answers, "the coordination service answers", 30)


def record(pod: str, **more: object) -> PodRecord:
    return PodRecord(pod=pod, service="metadata", address=f"{pod}:7201", **more)


def owner(pod: str, epoch: int) -> ShardOwner:
    return ShardOwner(address=f"{pod}:7201", epoch=epoch, pod=pod)


def test_pods_see_each_other_in_the_order_they_came(join: Join) -> None:
    one, two = join("pod-b"), join("pod-a")
    one.register(record("pod-b"))
    two.register(record("pod-a", ready=(SHARD,)))
    one.register(record("pod-b", leaving=True))
    pods = two.look(SHARDS).pods
    assert pods["pod-b"].since < pods["pod-a"].since
    assert pods["pod-b"].leaving
    assert pods["pod-a"].ready == (SHARD,)


def test_shard_has_one_claim_which_ends_with_its_session(join: Join) -> None:
    one, two = join("one"), join("two")
    assert one.claim(SHARD)
    assert one.claim(SHARD)
    assert not two.claim(SHARD)
    two.unclaim(SHARD)
    assert two.look(SHARDS).claims == {SHARD: Claim("one", current=False)}
    assert one.look(SHARDS).claims == {SHARD: Claim("one", current=True)}
    one.close()
    wait_until(lambda: two.claim(SHARD), "the claim is free", 10)
    two.unclaim(SHARD)
    assert two.look(SHARDS).claims == {}


def test_claim_of_a_dead_pod_is_taken_over_its_session(join: Join) -> None:
    one, two = join("one"), join("two")
    assert one.claim(SHARD)
    assert not two.claim(SHARD, "three")
    assert two.claim(SHARD, "one")
    assert not one.claim(SHARD)


def test_pod_that_begins_again_takes_the_place_of_its_earlier_life(join: Join) -> None:
    before, again = join("one"), join("one")
    before.register(record("one"))
    assert before.claim(SHARD)
    assert not again.look(SHARDS).claims[SHARD].current
    again.register(record("one", ready=(SHARD,)))
    assert again.claim(SHARD)
    seen = again.look(SHARDS)
    assert seen.claims[SHARD].current
    assert seen.pods["one"].ready == (SHARD,)
    before.close()
    assert again.look(SHARDS).claims[SHARD].current


def test_plan_is_set_by_who_saw_the_last_one(join: Join) -> None:
    one, two = join("one"), join("two")
    assert one.look(SHARDS).versions == dict.fromkeys(SHARDS, -1)
    assert one.plan(SHARD, Plan(owner="one"), -1)
    assert not two.plan(SHARD, Plan(owner="two"), -1)
    seen = two.look(SHARDS)
    assert two.plan(SHARD, Plan(owner="two", standby="one"), seen.versions[SHARD])
    assert not one.plan(SHARD, Plan(owner="one"), seen.versions[SHARD])
    assert one.look(SHARDS).plans == {SHARD: Plan(owner="two", standby="one")}


@pytest.mark.parametrize("gives_up", [False, True], ids=["overtakes", "gives-up"])
def test_claim_that_took_the_place_of_the_one_seen_stays(
    zookeeper: ZooKeeperSettings, monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    """Between the look of `one` and its change the claim that it saw gives way to another."""
    one, dead, other = (ZooKeeper(zookeeper, name) for name in ("one", "dead", "other"))
    for session in (one, dead, other):
        session.start(lambda: None)
        reached(lambda session=session: session.look(SHARDS))
    asked, told = one._client.get_async, []

    def look(path: str, *more: object, **named: object) -> object:
        answer = asked(path, *more, **named)
        if path.endswith(SHARD) and not told:
            told.append(answer.get(timeout=10))
            (one if gives_up else dead)._client.delete_async(path).get(timeout=10)
            assert other.claim(SHARD)
        return answer

    try:
        assert (one if gives_up else dead).claim(SHARD)
        monkeypatch.setattr(one._client, "get_async", look)
        if gives_up:
            one.unclaim(SHARD)
        else:
            assert not one.claim(SHARD, over="dead")
        assert told
        assert other.look(SHARDS).claims == {SHARD: Claim("other", current=True)}
    finally:
        for session in (one, dead, other):
            session.close()


def test_map_never_goes_back_to_an_earlier_owner(join: Join) -> None:
    one, two = join("one"), join("two")
    two.publish(SHARD, owner("two", 5))
    one.publish(SHARD, owner("one", 4))
    one.publish("shard-001", owner("one", 1))
    for session in (one, two):
        assert session.read_map().shards == {SHARD: owner("two", 5), "shard-001": owner("one", 1)}
        assert session.look(SHARDS).shard_map == session.read_map()


def test_store_with_other_shards_is_refused(join: Join) -> None:
    one, two = join("one"), join("two")
    one.settle(IDENTITY)
    two.settle(IDENTITY)
    with pytest.raises(IdentityError):
        two.settle(Identity(data_shards=3, region="us-east-1"))


def test_whoever_looked_is_told_of_changes(zookeeper: ZooKeeperSettings) -> None:
    told = threading.Event()
    one, two = ZooKeeper(zookeeper, "one"), ZooKeeper(zookeeper, "two")
    try:
        one.start(told.set)
        two.start(lambda: None)
        reached(lambda: one.look(SHARDS))
        reached(lambda: two.look(SHARDS))
        for change in (
            lambda: two.register(record("two")),
            lambda: two.register(record("two", leaving=True)),
            lambda: two.claim(SHARD),
            lambda: two.unclaim(SHARD),
            lambda: two.plan(SHARD, Plan(owner="two"), -1),
            lambda: two.plan(SHARD, Plan(owner="one"), 0),
            lambda: two.publish(SHARD, owner("two", 1)),
        ):
            one.look(SHARDS)
            told.clear()
            change()
            assert told.wait(10)
    finally:
        one.close()
        two.close()


@pytest.mark.timeout(180)
def test_session_outlives_the_leader_of_the_ensemble(
    ensemble: Ensemble, zookeeper: ZooKeeperSettings
) -> None:
    session, leader = ZooKeeper(zookeeper, "one"), ensemble.leader()
    session.start(lambda: None)
    try:
        reached(lambda: session.claim(SHARD))
        ensemble.kill(leader)
        reached(lambda: session.look(SHARDS))
        assert session.look(SHARDS).claims == {SHARD: Claim("one", current=True)}
    finally:
        session.close()
        ensemble.start_server(leader)
        ensemble.wait_serving(*ensemble.servers)


@pytest.mark.timeout(180)
def test_calls_fail_while_no_server_is_there_and_work_again_later(
    ensemble: Ensemble, zookeeper: ZooKeeperSettings
) -> None:
    session = ZooKeeper(zookeeper, "one")
    session.start(lambda: None)
    try:
        reached(lambda: session.claim(SHARD))
        for server in ensemble.servers:
            ensemble.kill(server)
        begun = time.monotonic()
        with pytest.raises(CoordinationError):
            session.look(SHARDS)
        assert time.monotonic() < begun + SESSION_S
    finally:
        for server in ensemble.servers:
            ensemble.start_server(server)
        ensemble.wait_serving(*ensemble.servers)
        reached(lambda: session.look(SHARDS))
        session.close()
