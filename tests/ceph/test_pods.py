"""Shards of real pods over a real RADOS and a real ZooKeeper: killed, paused, asked to end, without
ZooKeeper; under load all the while. What was acknowledged is there, what was refused is not, and
nobody waits for long.

The limits are the goals of a quiet machine, times what a busy one takes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.core.ids import ShardId
from objectstore_app.media.segments import shard_folder
from objectstore_app.metadata_service.errors import NotOwnerError, UnsentError
from tests.ceph.fleet import SHARD_IDS, Fleet, put
from tests.ceph.pods import SHARDS
from tests.zookeeper.ensemble import Ensemble

pytestmark = pytest.mark.timeout(240)

SLACK = float(os.environ.get("OBJECTSTORE_TEST_SLACK", "4"))
HAND_OVER_S, KILLED_S, SILENT_S = 1.0, 2.0, 10.0
SHARD = SHARD_IDS[0]
PAUSED_S = 10.0


@pytest.fixture
def fleet(tmp_path: Path, ceph: Path, namespace: str, zookeeper: ZooKeeperSettings) -> Fleet:
    return Fleet(tmp_path, zookeeper, ceph, namespace)


@asynccontextmanager
async def under_load(fleet: Fleet) -> AsyncIterator[None]:
    async with fleet.load():
        yield
        await fleet.until(lambda: len(set(fleet.owners())) == SHARDS, "one shard each again")


def tell(fleet: Fleet, story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with fleet.running():
            await story()
            assert fleet.check() > 50

    asyncio.run(run())


def waited(fleet: Fleet, since: float) -> float:
    return max(history.longest_wait(since) for history in fleet.histories)


def test_planned_hand_over_loses_nothing_and_takes_less_than_a_second(fleet: Fleet) -> None:
    async def story() -> None:
        async with under_load(fleet):
            begun = time.monotonic()
            for name in list(fleet.pods):
                pod = fleet.pods[name]
                pod.terminate()
                assert await asyncio.to_thread(pod.end) == 0
                assert name not in fleet.owners()
                pod.start()
                await asyncio.to_thread(pod.wait_ready)
                await fleet.until(lambda: len(set(fleet.owners())) == SHARDS, "one shard each")
        assert waited(fleet, begun) < HAND_OVER_S * SLACK
        # Nobody was left without an answer: a hand-over decides what it was sent, or says not.
        assert not any(history.unknown for history in fleet.histories)

    tell(fleet, story)


def test_killed_processes_and_pods_are_taken_over(fleet: Fleet) -> None:
    async def story() -> None:
        async with under_load(fleet):
            begun = time.monotonic()
            for _ in range(2):
                os.kill(fleet.pod_of(SHARD).child(shard_folder(SHARD)), signal.SIGKILL)
                await asyncio.sleep(1.5)
            pod = fleet.pod_of(SHARD)
            pod.kill()
            await fleet.until(lambda: pod.name not in fleet.owners(), "its shards are elsewhere")
            await asyncio.sleep(0.5)
            pod.start()
            await asyncio.to_thread(pod.wait_ready)
        assert waited(fleet, begun) < KILLED_S * SLACK

    tell(fleet, story)


def test_paused_pod_wakes_up_and_can_neither_acknowledge_nor_overwrite(fleet: Fleet) -> None:
    async def story() -> None:
        async with under_load(fleet):
            begun, pod = time.monotonic(), fleet.pod_of(SHARD)
            pod.send(signal.SIGSTOP)
            # What it is sent while it sleeps it finds when it wakes up.
            late = [
                asyncio.ensure_future(fleet.ask(pod.name, SHARD, put(b"late-%d" % number, 1)))
                for number in range(20)
            ]
            await asyncio.sleep(PAUSED_S)
            assert pod.name not in fleet.owners()
            pod.send(signal.SIGCONT)
            told = await asyncio.gather(*late, return_exceptions=True)
            assert all(isinstance(one, (NotOwnerError, UnsentError)) for one in told), told
            await asyncio.to_thread(pod.wait_ready)
        assert waited(fleet, begun) < SILENT_S

    tell(fleet, story)


def test_paused_process_gives_its_shard_away(fleet: Fleet) -> None:
    async def story() -> None:
        async with under_load(fleet):
            begun, owner = time.monotonic(), fleet.pod_of(SHARD)
            pid = owner.child(shard_folder(SHARD))
            os.kill(pid, signal.SIGSTOP)
            await fleet.until(lambda: fleet.pod_of(SHARD) is not owner, "another pod has it")
            os.kill(pid, signal.SIGCONT)
        assert waited(fleet, begun) < SILENT_S

    tell(fleet, story)


def test_pod_whose_gateway_hangs_gives_its_shards_away(fleet: Fleet) -> None:
    async def story() -> None:
        async with under_load(fleet):
            begun, pod = time.monotonic(), fleet.pod_of(SHARD)
            gateway = pod.child("gateway")
            os.kill(gateway, signal.SIGSTOP)
            await fleet.until(lambda: pod.name not in fleet.owners(), "its shards are elsewhere")
            assert time.monotonic() - begun < SILENT_S
            status, found = await asyncio.to_thread(pod.health)
            assert (status, "gateway" in str(found)) == (503, True), found
            os.kill(gateway, signal.SIGCONT)
        assert waited(fleet, begun) < KILLED_S * SLACK

    tell(fleet, story)


def test_without_zookeeper_owners_go_on(fleet: Fleet, ensemble: Ensemble) -> None:
    async def story() -> None:
        owners = fleet.owners()
        try:
            async with fleet.load():
                begun = time.monotonic()
                leader = ensemble.leader()
                ensemble.kill(leader)
                await asyncio.sleep(5)
                for server in ensemble.servers:
                    if server != leader:
                        ensemble.kill(server)
                await asyncio.sleep(10)
            assert waited(fleet, begun) < HAND_OVER_S * SLACK
            assert fleet.owners() == owners
        finally:
            for server in ensemble.servers:
                ensemble.start_server(server)
            await asyncio.to_thread(ensemble.wait_serving, *ensemble.servers)
        async with under_load(fleet):
            pod = fleet.pod_of(ShardId(0))
            pod.kill()
            await fleet.until(lambda: pod.name not in fleet.owners(), "shards move again")
            pod.start()
            await asyncio.to_thread(pod.wait_ready)

    tell(fleet, story)
