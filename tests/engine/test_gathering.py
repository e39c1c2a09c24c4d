"""Group commits where an append is a round trip: who comes back at once goes along."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from objectstore_app.core.clock import now_ms
from objectstore_app.core.ids import ShardId
from objectstore_app.media.rados.log import RadosLog
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.metadata_service import hosted as hosted_module
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.hosted import Answer, Connection, HostedShard
from objectstore_app.metadata_service.shard import Shard
from tests.engine.support import BUCKET, put

SHARD = ShardId(0)
APPEND_S = 0.05
ROUNDS = 10


class SlowObjects(MemoryObjects):
    """An append takes a while, as the network and other machines' disks do."""

    appends = 0

    def write_if(self, name: str, guard: bytes, at: int, data: bytes, offset: int) -> None:
        super().write_if(name, guard, at, data, offset)
        self.appends += 1
        time.sleep(APPEND_S)


class Client:
    """Sends its next request a moment after the answer to the last."""

    def __init__(self, hosted: HostedShard, away_s: float) -> None:
        self._hosted, self._away_s = hosted, away_s
        self._left = ROUNDS
        self.done = asyncio.get_running_loop().create_future()

    def send(self) -> None:
        self._left -= 1
        self._hosted.submit(cast("Connection", self), [(self._left, put(b"%d" % id(self)))])

    def answer(self, _: list[Answer]) -> None:
        if self._left:
            asyncio.get_running_loop().call_later(self._away_s, self.send)
        else:
            self.done.set_result(None)


def appends(folder: Path, clients: int, *, half_away: bool = False) -> int:
    """How many appends the clients' requests took."""

    async def run() -> int:
        objects = SlowObjects()
        view = folder / "view.sqlite"
        shard = Shard(SHARD, RadosLog(objects, SHARD), view, data_shards=1, now_ms=now_ms)
        shard.commit([OpenBucket(bucket=BUCKET)])
        objects.appends = 0
        hosted = HostedShard(shard, view, None, lambda _: None)
        begun = [Client(hosted, 0.0005 * (number % 3)) for number in range(clients)]
        for number, client in enumerate(begun):
            if half_away and number % 2:
                asyncio.get_running_loop().call_later(APPEND_S / 2, client.send)
            else:
                client.send()
        async with asyncio.timeout(30):
            await asyncio.gather(*(client.done for client in begun))
        await hosted.close(release=False)
        return objects.appends

    return asyncio.run(run())


def test_clients_in_two_halves_come_together(tmp_path: Path) -> None:
    """Each half would wait for all of the other's append."""
    assert appends(tmp_path, 16, half_away=True) <= ROUNDS + 4


def test_one_client_alone_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_module, "GATHER_STEP_S", 60.0)
    assert appends(tmp_path, 1) == ROUNDS
