"""The pods that host shards: `metadata` has the data shards, `iam` the directory.

Each pod of a service has a process for every shard of the service, owner or standby; a gateway that
serves the shards which are this pod's; and an agent. The gateway is started first and ended last:
it tells who asks for a shard that is handed over where to go. The agent is ended first: it hands
over what the pod has. Now and then a process of an `iam` pod finishes buckets that were made or
deleted half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from ...config.shard_map import MapFile
from ...core.ids import ShardId
from ...media.opened import open_media
from ...media.segments import DIRECTORY_SHARD, shard_folder
from ...metadata_service.cluster import cluster_context
from ...metadata_service.halves import complete_buckets
from ...metadata_service.pod_shard import PodShard
from ...metadata_service.router import Router
from ...runtime import logging
from ...runtime.metrics import Counters
from ...runtime.supervisor import ChildContext, ChildSpec
from .loop import run_until_stopped
from .pod import PodPlan
from .shard_gateway import gateway_child

GATEWAY_STAGE, SHARDS_STAGE, AGENT_STAGE = 0, 1, 2
SHARD_STOP_S = 15.0
AGENT_STOP_S = 25.0
BUCKETS_STOP_S = 5.0
BUCKETS_EVERY_S = 600.0


def children(pod: PodPlan) -> list[ChildSpec]:
    """The processes of a pod that hosts shards, the supervisor aside."""
    shards = [
        ChildSpec(
            shard_folder(shard), "shard", SHARDS_STAGE, partial(_shard, pod, shard), SHARD_STOP_S
        )
        for shard in pod.shards
    ]
    agent = ChildSpec("agent", "agent", AGENT_STAGE, partial(_agent, pod), AGENT_STOP_S)
    found = [gateway_child(pod, GATEWAY_STAGE), *shards, agent]
    if DIRECTORY_SHARD in pod.shards:
        found.append(
            ChildSpec(
                "buckets", "buckets", AGENT_STAGE, partial(_buckets, pod), BUCKETS_STOP_S,
                every_s=BUCKETS_EVERY_S,
            )
        )  # fmt: skip
    return found


def _shard(pod: PodPlan, shard: ShardId, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, shard_folder(shard))
    pod.board.store(context.slot, Counters("shard"))
    with contextlib.closing(open_media(pod.store, pod.settings.ceph)) as media:
        run_until_stopped(
            lambda stop: PodShard(pod.store, shard, media).serve(ready=context.ready, stop=stop)
        )


def _agent(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "agent")
    from . import agent

    agent.main(pod, context)


def _buckets(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "buckets")
    context.ready()
    asyncio.run(_complete_buckets(pod))


async def _complete_buckets(pod: PodPlan) -> None:
    files = pod.settings.cluster_tls
    tls = cluster_context(files.ca, files.certificate, files.key, server=False)
    router = Router(MapFile(pod.settings.run), pod.settings.data_shards, tls)
    try:
        await complete_buckets(router)
    finally:
        await router.close()
