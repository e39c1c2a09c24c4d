"""Shards that move between pods: by plan, by death, by a session that ends; and what stays true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.media.rados.log import read_head
from objectstore_app.media.segments import shard_folder
from objectstore_app.metadata_service import agent as agents
from objectstore_app.metadata_service import ownership, pod_shard
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.errors import NotOwnerError, UnavailableError
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.view import open_reader
from tests.engine.pods import SHARDS, House, until
from tests.engine.support import BUCKET, put

SHARD = SHARDS[0]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "CONFIRM_S", 0.05)
    monkeypatch.setattr(pod_shard, "FOLLOW_S", 0.02)
    monkeypatch.setattr(pod_shard, "LINGER_S", 0.02)


def in_house(folder: Path, story: Callable[[House], Awaitable[None]]) -> None:
    """Run a story with three pods that have shared out their shards."""

    async def run() -> None:
        house = House(folder)
        for pod in house.pods.values():
            pod.start()
        await until(lambda: house.settled() and len(set(house.owners())) == 3, "one shard each")
        for shard in SHARDS:
            await house.write(shard, OpenBucket(bucket=BUCKET))
        try:
            await story(house)
        finally:
            for pod in house.pods.values():
                await pod.die()

    asyncio.run(run())


async def fill(house: House, prefix: str, count: int = 20) -> None:
    for number in range(count):
        await house.put_until(SHARD, put(b"%s-%d" % (prefix.encode(), number), prefix.encode()))


async def finds(house: House, prefix: str, count: int = 20) -> None:
    """What `fill` wrote is in the view of the owner."""
    await until(house.settled, "all shards owned")
    owner = house.owner(SHARD)
    assert owner is not None
    view = open_reader(house.pods[owner.pod].store.view(SHARD))
    for number in range(count):
        assert lookup(view, BUCKET, b"%s-%d" % (prefix.encode(), number), "") is not None
    view.close()


def test_shards_are_shared_out_and_each_pod_is_ready(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        for pod in house.pods.values():
            await pod.agent.check()
            found = pod.map.current()
            assert found == house.hall.shard_map

    in_house(tmp_path, story)


def test_pod_that_leaves_hands_its_shards_over(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await fill(house, "before")
        owner = house.owner(SHARD)
        assert owner is not None
        leaving = house.pods[owner.pod]
        writing = asyncio.ensure_future(fill(house, "during", 200))
        await leaving.leave()
        assert house.owner(SHARD) != owner
        await writing
        await finds(house, "before")
        await finds(house, "during", 200)
        found = read_head(house.logs.objects, SHARD)
        assert found is not None
        assert not found[0].released
        assert found[0].epoch == owner.epoch + 1, "one hand-over takes one epoch"

    in_house(tmp_path, story)


def test_standby_says_who_the_owner_is_not(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        owner = house.owner(SHARD)
        assert owner is not None
        standby = next(pod for name, pod in house.pods.items() if name != owner.pod)
        with pytest.raises(NotOwnerError):
            await standby.submit(SHARD, put(b"key"))

    in_house(tmp_path, story)


def test_request_that_waits_in_a_hand_over_is_told_the_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        before = house.owner(SHARD)
        assert before is not None
        pod = house.pods[before.pod]
        leaving = asyncio.ensure_future(pod.leave())
        refusals: list[NotOwnerError] = []
        while not leaving.done():
            try:
                await pod.submit(SHARD, put(b"key"))
            except NotOwnerError as error:
                refusals.append(error)
                break
            except UnavailableError:
                break
        await leaving
        after = house.owner(SHARD)
        assert after is not None
        assert [(one.epoch, one.address) for one in refusals] == [(after.epoch, after.address)]

    in_house(tmp_path, story)


def test_dead_process_gives_its_shard_to_another_pod_at_once(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await fill(house, "before")
        owner = house.owner(SHARD)
        assert owner is not None
        pod = house.pods[owner.pod]
        await pod.cut(shard_folder(SHARD))
        await until(lambda: house.owners()[0] not in ("", owner.pod), "another pod has it")
        await fill(house, "after")
        pod.start_shard(SHARD)
        await until(lambda: len(set(house.owners())) == 3, "it gets a shard again")
        await finds(house, "before")
        await finds(house, "after")

    in_house(tmp_path, story)


def test_pod_whose_gateway_hangs_lets_go_of_its_shards_until_it_answers(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await fill(house, "before")
        owner = house.owner(SHARD)
        assert owner is not None
        pod = house.pods[owner.pod]
        await pod.agent.check_alive()
        pod.gateway_silent_s = agents.UNHEARD_GATEWAY_S_MAX + 0.1
        with pytest.raises(UnavailableError, match="gateway"):
            await pod.agent.check()
        await until(lambda: owner.pod not in house.owners(), "its shards are elsewhere")
        await pod.agent.check_alive()  # it may still come back
        pod.gateway_silent_s = agents.HANGS_S_MIN + 0.1
        with pytest.raises(UnavailableError, match="gateway"):
            await pod.agent.check_alive()
        await fill(house, "after")
        pod.gateway_silent_s = 0.0
        await until(lambda: len(set(house.owners())) == 3, "it gets a shard again")
        await finds(house, "before")
        await finds(house, "after")

    in_house(tmp_path, story)


def test_owners_stay_while_all_gateways_are_silent(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        owners = house.owners()
        for pod in house.pods.values():
            pod.gateway_silent_s = agents.UNHEARD_GATEWAY_S_MAX + 0.1
        await until(lambda: not any(one.ready for _, one in house.hall.pods.values()), "all say so")
        await asyncio.sleep(2 * agents.LISTEN_S)
        await fill(house, "meanwhile")
        assert house.owners() == owners
        for pod in house.pods.values():
            pod.gateway_silent_s = 0.0
        await finds(house, "meanwhile")

    in_house(tmp_path, story)


def test_process_that_is_not_heard_of_any_more_is_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        pod = next(iter(house.pods.values()))
        await pod.agent.check_alive()
        await pod.cut(shard_folder(SHARD))
        await pod.agent.check_alive()
        monkeypatch.setattr(agents, "HANGS_S_MIN", 0.0)
        with pytest.raises(UnavailableError, match="hangs"):
            await pod.agent.check_alive()

    in_house(tmp_path, story)


def test_owner_whose_session_ended_loses_its_shard_and_does_not_know_yet(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await fill(house, "before")
        owner = house.owner(SHARD)
        assert owner is not None
        pod = house.pods[owner.pod]
        await pod.cut("agent")
        pod.coordination.expire()
        await until(lambda: house.owners()[0] not in ("", owner.pod), "another pod has it")
        await fill(house, "after")
        with pytest.raises(NotOwnerError):
            await pod.submit(SHARD, put(b"zombie"))
        await until(lambda: pod.holds(SHARD) == 0, "its readers are told")
        pod.start_agent()
        await finds(house, "before")
        await finds(house, "after")
        with pytest.raises(AssertionError):
            await finds(house, "zombie", 1)

    in_house(tmp_path, story)


def test_idle_owner_learns_that_it_lost_its_shard(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        owner = house.owner(SHARD)
        assert owner is not None
        pod = house.pods[owner.pod]
        house.logs.log(SHARD)
        await until(lambda: pod.holds(SHARD) != owner.epoch, "it stops or takes it anew")
        await fill(house, "after")
        await finds(house, "after")

    in_house(tmp_path, story)


def test_loss_of_coordination_stops_nobody(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        owners = house.owners()
        for pod in house.pods.values():
            pod.coordination.reachable = False
        await fill(house, "cut off", 100)
        for pod in house.pods.values():
            pod.coordination.expire()
        await fill(house, "without sessions", 100)
        assert house.owners() == owners
        for pod in house.pods.values():
            pod.coordination.reachable = True
        await until(lambda: len(house.hall.claims) == 3, "claimed anew")
        await finds(house, "cut off", 100)
        await finds(house, "without sessions", 100)

    in_house(tmp_path, story)


def test_last_pod_ends_without_a_successor(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await fill(house, "before")
        for pod in list(house.pods.values()):
            await pod.leave()
        found = [read_head(house.logs.objects, ShardId(shard)) for shard in SHARDS]
        assert [one[0].released for one in found if one is not None] == [True] * 3
        for pod in house.pods.values():
            pod.coordination = type(pod.coordination)(house.hall, pod.name)
            pod.start()
        await until(house.settled, "all shards owned")
        await finds(house, "before")

    in_house(tmp_path, story)
