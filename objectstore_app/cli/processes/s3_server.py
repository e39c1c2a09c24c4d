"""What serves S3 in a process, whatever lies behind it: the HTTP server, health and metrics, the
certificate that follows its files, and an end in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ...config.service import ServiceSettings
from ...config.settings import ServeSettings
from ...core.clock import now_ms
from ...core.limits import DRAIN_TIMEOUT_S
from ...iam.keyring import Keyring
from ...media.opened import open_media
from ...media.store import Store
from ...metadata_service.api import MetadataClient
from ...runtime.access_log import AccessLog
from ...runtime.context import ServerLimits
from ...runtime.errors import StartError
from ...runtime.health import Check, SystemRoutes
from ...runtime.logging import event
from ...runtime.metrics import MetricsBoard, StoreFacts
from ...runtime.server import HttpServer, connections_within_limit
from ...runtime.supervisor import ChildContext
from ...runtime.tls import ServerTls
from ...s3_adapter.app import application
from ...s3_adapter.services import Services

PUBLISH_INTERVAL_S = 1.0
CERTIFICATE_INTERVAL_S = 60.0
THREAD_SWITCH_S = 5e-5


def open_services(
    held: contextlib.AsyncExitStack,
    metadata: MetadataClient,
    store: Store,
    settings: ServeSettings | ServiceSettings,
    stop: asyncio.Event,
) -> Services:
    """The services over a store's media, which `held` closes. A medium that fails sets `stop`."""
    media = open_media(store, settings.ceph)
    held.callback(media.close)
    chunks = media.chunks(now_ms, stop.set)
    held.push_async_callback(chunks.close)
    return Services(
        metadata,
        media.reader,
        chunks,
        Keyring(store.master_key()),
        settings.region,
        settings.domains,
        encrypted=settings.encrypted,
        compressed=settings.compressed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """`checks` say whether the process is ready, `entry_checks` and `waits` what an entry is told
    (`runtime/health.py`), `facts` are the store's.
    """

    role: str
    board: MetricsBoard
    certificate: tuple[Path, Path]
    log_format: str
    drain_grace_s: float
    checks: Mapping[str, Check]
    facts: Callable[[], Awaitable[StoreFacts]]
    domains: tuple[str, ...] = ()
    entry_checks: Mapping[str, Check] | None = None
    waits: Callable[[], bool] = lambda: False

    async def serve(
        self,
        services: Services,
        listener: socket.socket,
        context: ChildContext,
        stop: asyncio.Event,
    ) -> None:
        """Until `stop` is set and what was under way is answered."""
        # Hashing and chunk I/O run in threads: they must hand the interpreter back soon.
        sys.setswitchinterval(THREAD_SWITCH_S)
        server = self._server(context.slot, services, ServerTls(*self.certificate))
        with contextlib.ExitStack() as held:
            held.callback(self.board.store, context.slot, server.counters)
            server.listen(listener)
            context.ready()
            await stop.wait()
            event("draining", connections=server.counters.connections)
            finished = await server.drain(self.drain_grace_s, DRAIN_TIMEOUT_S)
            event("drained", all_answered=finished)

    def _server(self, slot: int, services: Services, tls: ServerTls) -> HttpServer:
        loop = asyncio.get_running_loop()
        counters = self.board.load(slot, "front-end")
        routes = SystemRoutes(
            version=__version__,
            role=self.role,
            checks=self.checks,
            board=self.board,
            counters=counters,
            slot=slot,
            draining=lambda: server.draining,
            domains=self.domains,
            facts=self.facts,
            entry_checks=self.entry_checks,
            waits=self.waits,
        )
        server = HttpServer(
            routes.wrap(application(services)),
            counters=counters,
            access_log=AccessLog(loop, sys.stderr.fileno(), self.log_format),
            tls=tls.context,
            limits=ServerLimits(connections_max=connections_within_limit()),
        )

        def publish() -> None:
            self.board.store(slot, counters)
            loop.call_later(PUBLISH_INTERVAL_S, publish)

        def follow_certificate() -> None:
            try:
                if tls.refresh():
                    event("certificate_replaced", file=str(tls.certificate))
            except StartError as error:
                event("certificate_unusable", reason=str(error))
            loop.call_later(CERTIFICATE_INTERVAL_S, follow_certificate)

        publish()
        loop.call_later(CERTIFICATE_INTERVAL_S, follow_certificate)
        return server
