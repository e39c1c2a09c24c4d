"""The pod that works on what a deployed store holds: Atlas, and what keeps a copy of the shard map.

Atlas begins now and then, brings its views up to date, runs the passes that are due and ends. It
asks the shards' owners for what has to change. One pod is enough; that a second one works at the
same time for a while, as after a node was lost, does no harm: what is given back is dead for both,
owners compare before they change a row, a base only ever follows a later one.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from ... import __version__
from ...atlas.catching_up import catch_up
from ...atlas.pace import Pace, lowest_priority
from ...atlas.passes import run_passes
from ...config.shard_map import MapFile
from ...config.zookeeper import ZooKeeper
from ...core.clock import now_ms
from ...core.ids import ShardId
from ...media.opened import open_media
from ...media.segments import shard_folder
from ...metadata_service.api import DataMutation, MutationResult
from ...metadata_service.cluster import cluster_context
from ...metadata_service.errors import UnavailableError
from ...metadata_service.map_copy import follow_map
from ...metadata_service.router import Router
from ...runtime import logging
from ...runtime.health import SystemRoutes
from ...runtime.http import Request, Response
from ...runtime.listeners import bind_listeners
from ...runtime.server import HttpServer
from ...runtime.supervisor import ChildContext, ChildSpec
from .loop import run_until_stopped
from .pod import PodPlan

MAP_STAGE, ATLAS_STAGE = 0, 1
STOP_S = 10.0
MAP_S_MAX = 30.0
DRAIN_S = 1.0


def children(pod: PodPlan) -> list[ChildSpec]:
    """The processes of the pod, the supervisor aside."""
    every_s = pod.settings.atlas.interval_s
    return [
        ChildSpec("map", "map", MAP_STAGE, partial(_map, pod), STOP_S),
        ChildSpec(
            "atlas", "atlas", ATLAS_STAGE, partial(_atlas, pod), STOP_S, every_s, at_start=True
        ),
    ]


def _map(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "map")
    run_until_stopped(lambda stop: _keep_map(pod, context, stop))


async def _keep_map(pod: PodPlan, context: ChildContext, stop: asyncio.Event) -> None:
    """Beside it answer for the pod's health: it is well while its processes are."""
    settings = pod.settings
    counters = pod.board.load(context.slot, "map")
    routes = SystemRoutes(
        version=__version__,
        role=pod.service,
        checks={},
        board=pod.board,
        counters=counters,
        slot=context.slot,
        draining=stop.is_set,
    )
    server = HttpServer(routes.wrap(_nothing_else), counters=counters)
    listen = settings.health_listen
    server.listen(bind_listeners(listen.host, listen.port, 1)[0])
    context.ready()
    try:
        await follow_map(ZooKeeper(settings.zookeeper, settings.pod), settings.run, stop)
    finally:
        await server.drain(0.0, DRAIN_S)


async def _nothing_else(_: Request) -> Response:
    return Response(404)


def _atlas(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "atlas")
    context.ready()
    lowest_priority()
    run_until_stopped(lambda stop: _work(pod, stop))


async def _work(pod: PodPlan, stop: asyncio.Event) -> None:
    settings, files = pod.settings, pod.settings.cluster_tls
    tls = cluster_context(files.ca, files.certificate, files.key, server=False)
    with contextlib.closing(open_media(pod.store, settings.ceph)) as media:
        as_of_ms = now_ms()
        await asyncio.to_thread(catch_up, pod.store, media)
        await run_passes(
            pod.store,
            media,
            settings.atlas,
            names=None,
            pace=Pace(settings.atlas.bytes_per_s, stop=stop),
            now_ms=lambda: as_of_ms,
            writers=_Owners(Router(MapFile(settings.run), settings.data_shards, tls)),
        )


class _Owners:
    """Writers: whoever has the shard."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def submit(self, shard: ShardId, mutation: DataMutation) -> MutationResult:
        until = asyncio.get_running_loop().time() + MAP_S_MAX
        while not self._router.owners.known:
            if asyncio.get_running_loop().time() > until:
                raise UnavailableError("ask owner", shard_folder(shard), "the shard map is unknown")
            await asyncio.sleep(0.1)
        return await self._router.mutate_on(shard, mutation)

    async def close(self) -> None:
        await self._router.close()
