"""The process that serves front ends on other nodes."""

from __future__ import annotations

import asyncio

from ...core.clock import now_ms
from ...media.opened import open_media
from ...media.store import open_store
from ...metadata_service.client import EmbeddedClient
from ...metadata_service.cluster import cluster_context
from ...metadata_service.gateway import GatewayService, serve_gateway
from ...runtime.errors import StartError
from ...runtime.metrics import Counters
from ...runtime.supervisor import ChildContext
from .loop import run_until_stopped
from .plan import Plan


def main(plan: Plan, context: ChildContext) -> None:
    plan.board.store(context.slot, Counters("gateway"))
    run_until_stopped(lambda stop: _serve(plan, context, stop))


async def _serve(plan: Plan, context: ChildContext, stop: asyncio.Event) -> None:
    listen, files = plan.settings.cluster_listen, plan.settings.cluster_tls
    if listen is None or files is None:
        raise StartError("start gateway", "", "--cluster-listen and --cluster-*")
    tls = cluster_context(files.ca, files.certificate, files.key, server=True)
    store = open_store(plan.data, create=False)
    client = EmbeddedClient(store)
    media = open_media(store, plan.settings.ceph)
    chunks = media.chunks(now_ms, stop.set)
    service = GatewayService(client, media.reader, chunks)
    try:
        await serve_gateway(
            service, (listen.host, listen.port), tls, ready=context.ready, stop=stop
        )
    except OSError as error:
        raise StartError("--cluster-listen", str(listen), str(error)) from error
    finally:
        await chunks.close()
        await client.close()
        media.close()
