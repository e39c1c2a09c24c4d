"""The pods that speak S3: front ends over a router, and what keeps their copy of the shard map.

A front end binds the pod's port itself, beside the others. It writes and reads large bodies in Ceph
by itself; everything else goes to the shards' owners.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial

from ...config.errors import SettingsError
from ...config.settings import first_administrator_keys
from ...config.shard_map import MapFile
from ...core.errors import ObjectStoreError
from ...core.limits import DRAIN_TIMEOUT_S
from ...metadata_service.cluster import cluster_context
from ...metadata_service.errors import UnavailableError
from ...metadata_service.router import Router
from ...object_controller.people import ensure_first_administrator
from ...runtime import logging
from ...runtime.listeners import bind_beside
from ...runtime.logging import event
from ...runtime.metrics import StoreFacts
from ...runtime.supervisor import ChildContext, ChildSpec
from ...s3_adapter.services import Services
from .loop import run_until_stopped
from .pod import PodPlan
from .s3_server import S3Server, open_services

MAP_STAGE, FRONT_ENDS_STAGE = 0, 1
MAP_STOP_S = 5.0
STOP_MARGIN_S = 5.0
ASK_S = 0.5
ASK_S_MAX = 5.0
WAITS_AFTER_S = 3.0
SILENCE_S_MAX = 15.0
ADMINISTRATOR_RETRY_S = 0.5


def children(pod: PodPlan) -> list[ChildSpec]:
    """The processes of a pod that speaks S3, the supervisor aside. Raises SettingsError."""
    settings = pod.settings
    for key, value in (("tls_cert", settings.tls), ("master_key", settings.master_key)):
        if value is None:
            raise SettingsError(key, "not given", "a file")
    stop_s = DRAIN_TIMEOUT_S + settings.drain_grace_s + STOP_MARGIN_S
    front_ends = [
        ChildSpec(
            f"front-end-{number}", "front-end", FRONT_ENDS_STAGE, partial(_front_end, pod), stop_s
        )
        for number in range(settings.workers)
    ]
    return [ChildSpec("map", "map", MAP_STAGE, partial(_map, pod), MAP_STOP_S), *front_ends]


def _map(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "map")
    from . import agent

    agent.follow(pod, context)


def _front_end(pod: PodPlan, context: ChildContext) -> None:
    logging.set_up(pod.settings.log_format, "front-end")
    run_until_stopped(lambda stop: _serve(pod, context, stop))


async def _serve(pod: PodPlan, context: ChildContext, stop: asyncio.Event) -> None:
    settings, files = pod.settings, pod.settings.cluster_tls
    if settings.tls is None:
        raise SettingsError("tls_cert", "not given", "a file")
    async with contextlib.AsyncExitStack() as held:
        tls = cluster_context(files.ca, files.certificate, files.key, server=False)
        router = Router(MapFile(settings.run), settings.data_shards, tls)
        held.push_async_callback(router.close)
        services = open_services(held, router, pod.store, settings, stop)
        readiness = Readiness(router, services)
        held.callback(readiness.close)
        server = S3Server(
            role="object-controller",
            board=pod.board,
            certificate=settings.tls,
            log_format=settings.log_format,
            drain_grace_s=settings.drain_grace_s,
            checks={"directory": readiness.directory, "administrator": readiness.administrator},
            entry_checks={"begun": readiness.begun, "administrator": readiness.administrator},
            waits=readiness.waits,
            domains=settings.domains,
            facts=partial(_store_facts, router),
        )
        listener = bind_beside(settings.listen.host, settings.listen.port)
        await server.serve(services, listener, context, stop)


async def _store_facts(router: Router) -> StoreFacts:
    buckets, usage = await router.total_usage()
    return StoreFacts(
        buckets=buckets,
        objects=usage.objects,
        versions=usage.versions,
        size_bytes=usage.size_bytes,
        uploads=usage.uploads,
    )


class Readiness:
    """Whether requests can be answered here: whether the directory's owner answers, which is asked
    all the time, so that who wants to know has not to wait.

    Silence has two reasons, which look alike from here: nobody has the directory just now, and then
    requests wait here as well as anywhere, or this machine is cut off from who has it, and then
    others serve them. Only an entry, which hears all front ends, can tell. So from WAITS_AFTER_S on
    it is told that requests would wait here: those where they would not are preferred, and if there
    are none, requests wait and are not refused. Kubernetes, which sends nothing here, is told that
    it is not ready after SILENCE_S_MAX.
    """

    def __init__(self, router: Router, services: Services) -> None:
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._answered = float("-inf")
        self._asking = self._loop.create_task(self._ask())
        self._making = self._loop.create_task(self._make_administrator(services))

    async def directory(self) -> None:
        """Raises UnavailableError."""
        await self.begun()
        if self._silent_s() > SILENCE_S_MAX:
            raise UnavailableError("ask the directory", "", "its owner does not answer")

    async def begun(self) -> None:
        """Whether it was ever heard. Raises UnavailableError."""
        if not self._router.owners.known:
            raise UnavailableError("look for owners", "", "the shard map is not known yet")
        if self._answered == float("-inf"):
            raise UnavailableError("ask the directory", "", "its owner has not answered yet")

    def waits(self) -> bool:
        """Whether requests would wait here."""
        return self._silent_s() > WAITS_AFTER_S

    async def administrator(self) -> None:
        """Raises UnavailableError."""
        if not self._making.done():
            raise UnavailableError("make administrator", "", "the directory has not answered yet")
        self._making.result()

    def close(self) -> None:
        self._asking.cancel()
        self._making.cancel()

    def _silent_s(self) -> float:
        return self._loop.time() - self._answered

    async def _ask(self) -> None:
        while True:
            with contextlib.suppress(ObjectStoreError, TimeoutError):
                async with asyncio.timeout(ASK_S_MAX):
                    await self._router.generation()
                self._answered = self._loop.time()
            await asyncio.sleep(ASK_S)

    async def _make_administrator(self, services: Services) -> None:
        """Once in the life of a store, whoever comes first; those who come later find it there."""
        given = first_administrator_keys(os.environ)
        while given[0]:
            try:
                made = await ensure_first_administrator(services.metadata, services.keyring, *given)
            except ObjectStoreError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(ADMINISTRATOR_RETRY_S)
            else:
                if made is not None:
                    event("administrator_made", access_key=made.access_key)
                return
