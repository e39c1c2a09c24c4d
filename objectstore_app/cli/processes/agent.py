"""The process of a pod that speaks with ZooKeeper: it registers the pod, claims shards, keeps the
copy of the shard map, and answers for the pod's health where no front end does.
"""

from __future__ import annotations

import asyncio

from ... import __version__
from ...config.coordination import Identity
from ...config.zookeeper import ZooKeeper
from ...media.segments import shard_folder
from ...metadata_service.agent import Agent
from ...metadata_service.cluster import cluster_context
from ...metadata_service.gateway_link import OwnGateway
from ...metadata_service.map_copy import follow_map
from ...runtime.health import SystemRoutes
from ...runtime.http import Request, Response
from ...runtime.listeners import bind_listeners
from ...runtime.server import HttpServer
from ...runtime.supervisor import ChildContext
from .loop import run_until_stopped
from .pod import PodPlan

DRAIN_S = 1.0


def main(pod: PodPlan, context: ChildContext) -> None:
    """Of a pod that hosts shards."""
    run_until_stopped(lambda stop: _serve(pod, context, stop))


def follow(pod: PodPlan, context: ChildContext) -> None:
    """Of a pod that hosts none: only the map is kept."""
    zookeeper = ZooKeeper(pod.settings.zookeeper, pod.settings.pod)
    context.ready()
    run_until_stopped(lambda stop: follow_map(zookeeper, pod.settings.run, stop))


async def _serve(pod: PodPlan, context: ChildContext, stop: asyncio.Event) -> None:
    settings, files = pod.settings, pod.settings.cluster_tls
    tls = cluster_context(files.ca, files.certificate, files.key, server=False)
    gateway = OwnGateway(str(settings.address), tls)
    agent = Agent(
        ZooKeeper(settings.zookeeper, settings.pod),
        pod=settings.pod,
        service=pod.service,
        address=str(settings.address),
        shards=tuple(shard_folder(shard) for shard in pod.shards),
        identity=Identity(data_shards=settings.data_shards, region=settings.region),
        run=settings.run,
        gateway_silent_s=gateway.silent_s,
    )
    counters = pod.board.load(context.slot, "agent")
    routes = SystemRoutes(
        version=__version__,
        role=pod.service,
        checks={"shards": agent.check},
        living={"processes": agent.check_alive},
        board=pod.board,
        counters=counters,
        slot=context.slot,
        draining=stop.is_set,
    )
    server = HttpServer(routes.wrap(_nothing_else), counters=counters)
    listen = settings.health_listen
    server.listen(bind_listeners(listen.host, listen.port, 1)[0])
    try:
        await agent.serve(ready=context.ready, stop=stop)
    finally:
        await gateway.close()
        await server.drain(0.0, DRAIN_S)


async def _nothing_else(_: Request) -> Response:
    return Response(404)
