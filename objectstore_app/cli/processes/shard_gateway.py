"""The process of a pod that serves the pod's shards to front ends on other machines."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from ...config.shard_map import MapFile
from ...core.limits import CALL_S_MAX
from ...media.opened import open_media
from ...metadata_service.bodies import BodyCache
from ...metadata_service.cluster import cluster_context
from ...metadata_service.held_shard import HeldShard, ShardPipe
from ...metadata_service.holding import Holding, holding_path
from ...metadata_service.owners import Owners
from ...metadata_service.shard_gateway import Gateway, serve_shards
from ...runtime import logging
from ...runtime.errors import StartError
from ...runtime.metrics import Counters
from ...runtime.supervisor import ChildContext, ChildSpec
from .loop import run_until_stopped
from .pod import PodPlan


def gateway_child(pod: PodPlan, stage: int) -> ChildSpec:
    return ChildSpec("gateway", "gateway", stage, partial(_main, pod), CALL_S_MAX)


def _main(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "gateway")
    pod.board.store(context.slot, Counters("gateway"))
    run_until_stopped(lambda stop: _serve(pod, context, stop))


async def _serve(pod: PodPlan, context: ChildContext, stop: asyncio.Event) -> None:
    settings, store = pod.settings, pod.store
    files, listen = settings.cluster_tls, settings.cluster_listen
    tls = cluster_context(files.ca, files.certificate, files.key, server=True)
    with contextlib.ExitStack() as held:
        media = open_media(store, settings.ceph)
        held.callback(media.close)
        owners = Owners(MapFile(settings.run))
        held.callback(owners.close)
        shards = {
            shard: HeldShard(
                shard,
                Holding(holding_path(settings.run, shard), write=False),
                store.view(shard),
                ShardPipe(store.run, store.socket_name(shard)),
                confirm=media.confirm,
                owner=owners.not_owner,
            )
            for shard in pod.shards
        }
        try:
            await serve_shards(
                Gateway(shards, BodyCache(media.reader, media.mirrored)),
                (listen.host, listen.port),
                tls,
                ready=context.ready,
                stop=stop,
            )
        except OSError as error:
            raise StartError("cluster_listen", str(listen), str(error)) from error
