"""Pods with gateways in one loop, and routers to them; the medium, in memory, is theirs together.

The test is the agent of all pods: it says who is to have which shard, and writes the maps.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from objectstore_app.config.shard_map import MapFile, ShardMap, ShardOwner, write_map
from objectstore_app.core.ids import ShardId
from objectstore_app.media.api import Extent
from objectstore_app.media.rados.log import RadosLog, RadosLogReader, is_owned
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.rados.names import object_name
from objectstore_app.media.segments import DIRECTORY_SHARD, checksum, shard_folder
from objectstore_app.media.store import open_store
from objectstore_app.metadata_service import sockets
from objectstore_app.metadata_service.bodies import BodyCache
from objectstore_app.metadata_service.held_shard import HeldShard, ShardPipe
from objectstore_app.metadata_service.holding import Holding, holding_path
from objectstore_app.metadata_service.owners import Owners
from objectstore_app.metadata_service.pod_shard import PodShard
from objectstore_app.metadata_service.pod_talk import (
    SOCKET_NAME,
    Mode,
    Moved,
    Order,
    Own,
    Release,
    ShardState,
    decode_state,
    line_of,
)
from objectstore_app.metadata_service.router import Router
from objectstore_app.metadata_service.shard_gateway import Gateway, serve_shards

DATA_SHARD = ShardId(0)
SHARDS = (DIRECTORY_SHARD, DATA_SHARD)


class SharedMedia:
    """Media over objects in memory. `confirm` waits for `gate` and counts how often it is asked."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def log(self, shard: ShardId) -> RadosLog:
        return RadosLog(self.objects, shard)

    def log_source(self, shard: ShardId, *, standby: bool = False) -> RadosLogReader:
        return RadosLogReader(self.objects, shard)

    def kept_files(self, _: ShardId) -> None:
        return None

    async def confirm(self, shard: ShardId, epoch: int) -> bool:
        self.asked += 1
        await self.gate.wait()
        return is_owned(self.objects, shard, epoch)

    async def read(self, extent: Extent, start: int, length: int) -> bytes:
        held = self.objects.read(object_name(extent.segment), extent.offset, extent.length)
        assert held is not None
        assert checksum(held) == extent.crc
        return held[start : start + length]


class GatewayPod:
    """Shards' processes, as tasks, and their gateway."""

    def __init__(self, folder: Path, media: SharedMedia, tls: ssl.SSLContext) -> None:
        self.store = open_store(folder)
        self._media = media
        self._tls = tls
        self._stop, self._stop_shards = asyncio.Event(), asyncio.Event()
        self._shards: list[asyncio.Task[None]] = []
        self._orders: dict[str, asyncio.StreamWriter] = {}
        self._states: dict[str, ShardState] = {}
        self._told = asyncio.Event()
        self._killed = False
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"

    async def start(self) -> None:
        listener = sockets.listen(self.store.run, SOCKET_NAME)
        self._agent = await asyncio.start_unix_server(self._hear, sock=listener)
        self._owners = Owners(MapFile(self.store.run))
        held = {
            shard: HeldShard(
                shard,
                Holding(holding_path(self.store.run, shard), write=False),
                self.store.view(shard),
                ShardPipe(self.store.run, self.store.socket_name(shard)),
                confirm=self._media.confirm,
                owner=self._owners.not_owner,
            )
            for shard in SHARDS
        }
        gateway = Gateway(held, BodyCache(self._media))
        serving = serve_shards(gateway, self._sock, self._tls, ready=lambda: None, stop=self._stop)
        self._gateway = asyncio.ensure_future(serving)
        await self._start_shards()

    async def _start_shards(self) -> None:
        self._states.clear()
        self._shards = [
            asyncio.ensure_future(
                PodShard(self.store, shard, self._media).serve(
                    ready=lambda: None, stop=self._stop_shards
                )
            )
            for shard in SHARDS
        ]
        for shard in SHARDS:
            await self.becomes(shard, Mode.FOLLOWING)

    def order(self, shard: ShardId, order: Order) -> None:
        self._orders[shard_folder(shard)].write(line_of(order))

    async def becomes(self, shard: ShardId, mode: Mode) -> ShardState:
        while True:
            self._told.clear()
            state = self._states.get(shard_folder(shard))
            if state is not None and state.mode is mode:
                return state
            await self._told.wait()

    async def own(self, shard: ShardId, epoch: int) -> ShardState:
        """Have it take the shard, under a later epoch; it may believe that it has it still."""
        while True:
            self.order(shard, Own())
            with suppress(TimeoutError):
                state = await asyncio.wait_for(self.becomes(shard, Mode.OWNING), 0.2)
                if state.epoch > epoch:
                    return state
                await asyncio.sleep(0.05)

    async def restart_without_views(self) -> None:
        """As on another disk; the gateway goes on."""
        stop, self._stop_shards = self._stop_shards, asyncio.Event()
        stop.set()
        await asyncio.gather(*self._shards)
        for shard in SHARDS:
            for file in self.store.shard(shard).glob("view.sqlite*"):
                file.unlink()
        await self._start_shards()

    async def kill(self) -> None:
        """Nothing is released nor answered."""
        self._killed = True
        for task in (*self._shards, self._gateway):
            task.cancel()
        await self.stop()

    async def stop_gateway(self) -> None:
        self._stop.set()
        await self._gateway

    async def stop(self) -> None:
        self._stop.set()
        self._stop_shards.set()
        await asyncio.gather(*self._shards, self._gateway, return_exceptions=self._killed)
        self._owners.close()
        self._agent.close()
        for writer in self._orders.values():
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                state = decode_state(line)
                self._states[state.shard] = state
                self._orders[state.shard] = writer
                self._told.set()


class GatewayPods:
    """Some pods, who has what, and a folder for routers."""

    def __init__(
        self, folder: Path, count: int, server: ssl.SSLContext, client: ssl.SSLContext
    ) -> None:
        self.media = SharedMedia()
        self.pods = [
            GatewayPod(folder / f"pod-{number}", self.media, server) for number in range(count)
        ]
        self._client = client
        self.routers = folder / "front-end"
        self.routers.mkdir()
        self.map = ShardMap()
        self.owner: dict[ShardId, GatewayPod] = {}

    async def start(self) -> None:
        for pod in self.pods:
            await pod.start()
        for shard in SHARDS:
            await self.take(shard, self.pods[0])

    def router(self, run: Path | None = None) -> Router:
        return Router(MapFile(run or self.routers), 1, self._client)

    async def take(self, shard: ShardId, pod: GatewayPod, *, told: bool = True) -> None:
        """Have a pod take a shard from whoever has it, and unless not `told` say so."""
        known = self.map.owner(shard_folder(shard))
        state = await pod.own(shard, known.epoch if known else 0)
        owner = ShardOwner(address=pod.address, epoch=state.epoch, pod=pod.store.path.name)
        self.map = self.map.with_owner(shard_folder(shard), owner)
        last, self.owner[shard] = self.owner.get(shard), pod
        if told:
            self.tell()
            if last is not None and last is not pod:
                last.order(shard, Moved(owner.epoch, owner.address))

    async def move(self, shard: ShardId, pod: GatewayPod) -> None:
        """A hand-over in good order."""
        last = self.owner[shard]
        last.order(shard, Release())
        await last.becomes(shard, Mode.RELEASED)
        await self.take(shard, pod)

    def tell(self) -> None:
        for run in (self.routers, *(pod.store.run for pod in self.pods)):
            write_map(run, self.map)

    async def stop(self) -> None:
        for pod in self.pods:
            await pod.stop()
