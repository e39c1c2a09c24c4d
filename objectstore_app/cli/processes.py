"""What runs in each process of `objectstore serve`: front end, writer, gateway, Atlas.

The supervisor calls `main` in a freshly forked child. Everything that holds a file, a socket or a
loop is opened here, after the fork; SIGTERM ends each of them in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop

from .. import __version__
from ..atlas.pace import Pace, lowest_priority
from ..atlas.passes import run_passes
from ..atlas.state import load_state
from ..config.atlas import AtlasSettings
from ..config.ceph import CephSettings
from ..config.settings import Address, ClusterTls, ServeSettings
from ..core.ids import UserId
from ..core.limits import DRAIN_TIMEOUT_S
from ..iam.keyring import Keyring
from ..media.api import ChunkWriter, ExtentReader
from ..media.opened import open_media
from ..media.store import Store, StoreInUseError
from ..metadata_service.api import MetadataClient, RemoveUser
from ..metadata_service.client import EmbeddedClient
from ..metadata_service.cluster import cluster_context
from ..metadata_service.errors import UnavailableError, UserMissingError
from ..metadata_service.gateway import GatewayService, serve_gateway
from ..metadata_service.remote import RemoteStore
from ..metadata_service.writer import now_ms, serve_writer
from ..object_controller.people import ensure_first_administrator
from ..runtime import logging
from ..runtime.context import ServerLimits
from ..runtime.driving import inside_task
from ..runtime.errors import StartError
from ..runtime.health import SystemRoutes
from ..runtime.logging import AccessLog, event
from ..runtime.metrics import Counters, MetricsBoard, StoreFacts
from ..runtime.server import HttpServer, connections_within_limit
from ..runtime.supervisor import ChildContext
from ..runtime.tls import ServerTls
from ..s3_adapter.app import application
from ..s3_adapter.services import Services

PUBLISH_INTERVAL_S = 1.0
CERTIFICATE_INTERVAL_S = 60.0
CHECK_TIMEOUT_S = 2.0
GC_THRESHOLD = 20_000


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that appends to the shards' logs; it hosts all shards of the store."""

    store: Store
    board: MetricsBoard
    log_format: str
    ceph: CephSettings | None = None

    def main(self, context: ChildContext) -> None:
        logging.set_up(self.log_format, "writer")
        self.board.store(context.slot, Counters("writer"))
        media = open_media(self.store, self.ceph)
        with contextlib.closing(media):
            _run(lambda stop: serve_writer(self.store, ready=context.ready, stop=stop, media=media))


@dataclass(frozen=True, slots=True)
class Atlas:
    """The process that works on what is stored, and ends when nothing is due any more."""

    store: Store
    settings: AtlasSettings
    log_format: str

    def main(self, context: ChildContext) -> None:
        logging.set_up(self.log_format, "atlas")
        context.ready()
        lowest_priority()
        _run(self._work)

    async def _work(self, stop: asyncio.Event) -> None:
        pace = Pace(self.settings.bytes_per_s, stop=stop)
        try:
            await run_passes(self.store, self.settings, names=None, pace=pace, now_ms=now_ms)
        except StoreInUseError as error:
            event("atlas_is_at_work", reason=str(error))


@dataclass(frozen=True, slots=True)
class Gateway:
    """The process that serves front ends on other nodes."""

    store: Store
    board: MetricsBoard
    log_format: str
    listen: Address
    tls: ClusterTls
    ceph: CephSettings | None = None

    def main(self, context: ChildContext) -> None:
        logging.set_up(self.log_format, "gateway")
        self.board.store(context.slot, Counters("gateway"))
        _run(lambda stop: self._serve(context, stop))

    async def _serve(self, context: ChildContext, stop: asyncio.Event) -> None:
        tls = cluster_context(self.tls.ca, self.tls.certificate, self.tls.key, server=True)
        client = EmbeddedClient(self.store)
        media = open_media(self.store, self.ceph)
        chunks = media.chunks(now_ms, stop.set)
        service = GatewayService(client, media.reader, chunks)
        address = (self.listen.host, self.listen.port)
        try:
            await serve_gateway(service, address, tls, ready=context.ready, stop=stop)
        except OSError as error:
            raise StartError("--cluster-listen", str(self.listen), str(error)) from error
        finally:
            await chunks.close()
            await client.close()
            media.close()


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """The process that speaks S3. `listener` is its own of all `listeners` on the port.

    `root_keys` are the first administrator's, set in the one front end that makes it.
    """

    settings: ServeSettings
    store: Store | None
    board: MetricsBoard
    listener: socket.socket
    listeners: tuple[socket.socket, ...]
    certificate: Path
    key: Path
    root_keys: tuple[str, str] | None

    def main(self, context: ChildContext) -> None:
        logging.set_up(self.settings.log_format, "front-end")
        for other in self.listeners:
            if other is not self.listener:
                other.close()
        # Hashing and chunk I/O run in threads: they must hand the interpreter back soon.
        sys.setswitchinterval(5e-5)
        _run(lambda stop: self._serve(context, stop))

    async def _serve(self, context: ChildContext, stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as held:
            services = await self._services(held, stop)
            if self.root_keys is not None and self.store is not None:
                await _first_administrator(services, self.root_keys)
            server = self._server(context.slot, services, ServerTls(self.certificate, self.key))
            held.callback(self.board.store, context.slot, server.counters)
            server.listen(self.listener)
            context.ready()
            await stop.wait()
            event("draining", connections=server.counters.connections)
            finished = await server.drain(self.settings.drain_grace_s, DRAIN_TIMEOUT_S)
            event("drained", all_answered=finished)

    async def _services(self, held: contextlib.AsyncExitStack, stop: asyncio.Event) -> Services:
        settings = self.settings

        def services(
            metadata: MetadataClient, reader: ExtentReader, chunks: ChunkWriter, keyring: Keyring
        ) -> Services:
            return Services(
                metadata,
                reader,
                chunks,
                keyring,
                settings.region,
                settings.domains,
                encrypted=settings.encrypted,
                compressed=settings.compressed,
            )

        if self.store is not None:
            client = EmbeddedClient(self.store)
            held.push_async_callback(client.close)
            media = open_media(self.store, settings.ceph)
            held.callback(media.close)
            chunks = media.chunks(now_ms, stop.set)
            held.push_async_callback(chunks.close)
            return services(client, media.reader, chunks, Keyring(self.store.master_key()))
        upstream, tls, master_key = settings.upstream, settings.cluster_tls, settings.master_key
        if upstream is None or tls is None or master_key is None:
            raise StartError("start front end", "", "--upstream, --cluster-* and --master-key")
        remote = RemoteStore(
            upstream.host,
            upstream.port,
            cluster_context(tls.ca, tls.certificate, tls.key, server=False),
        )
        held.push_async_callback(remote.close)
        keyring = Keyring(_read_master_key(master_key))
        return services(remote.client, remote.reader, remote.chunks, keyring)

    def _server(self, slot: int, services: Services, tls: ServerTls) -> HttpServer:
        loop = asyncio.get_running_loop()
        counters = self.board.load(slot, "front-end")
        access_log = AccessLog(loop, sys.stderr.fileno(), self.settings.log_format)
        routes = SystemRoutes(
            version=__version__,
            role="store" if self.store is not None else "front-end",
            checks={"metadata": lambda: _writer_answers(services.metadata)},
            board=self.board,
            counters=counters,
            slot=slot,
            draining=lambda: server.draining,
            domains=self.settings.domains,
            facts=lambda: self._facts(services.metadata),
        )
        server = HttpServer(
            routes.wrap(application(services)),
            counters=counters,
            access_log=access_log,
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

    def _facts(self, metadata: MetadataClient) -> StoreFacts | None:
        """None on a node without data."""
        if self.store is None or not isinstance(metadata, EmbeddedClient):
            return None
        buckets, usage = metadata.total_usage()
        state = load_state(self.store)
        return StoreFacts(
            buckets=buckets,
            objects=usage.objects,
            versions=usage.versions,
            size_bytes=usage.size_bytes,
            uploads=usage.uploads,
            damage=len(state.damage) + state.damage_left_out,
            scrubs=state.scrubs_completed,
            atlas=state.counters,
            passes={name: last.ended_ms / 1000 for name, last in state.passes.items()},
        )


async def _first_administrator(services: Services, given: tuple[str, str]) -> None:
    """Make the first administrator of a new store; show keys that were made here, once."""
    identity = await ensure_first_administrator(services.metadata, services.keyring, *given)
    if identity is not None and not given[0]:
        click.echo(
            "first administrator (shown this once)\n"
            f"  access key    {identity.access_key}\n"
            f"  secret key    {identity.secret_key}"
        )


async def _writer_answers(metadata: MetadataClient) -> None:
    """Return when a mutation makes its way to the writer and back. Raises: UnavailableError.

    Nobody has the empty id, so nothing changes and nothing is flushed.
    """
    await inside_task()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await metadata.mutate_directory(RemoveUser(id=UserId("")))
    except UserMissingError:
        return
    except TimeoutError as error:
        raise UnavailableError("ask the writer", "", "no answer in time") from error


def _read_master_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError("--master-key", str(path), str(error)) from error


def _run(serve: Callable[[asyncio.Event], Coroutine[object, object, None]]) -> None:
    """Run a process's main coroutine; the event it is given is set by SIGTERM."""

    # What is loaded by now lives as long as the process, and requests make next to no cycles: a
    # page of a listing must not pay for looking through all of it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await serve(stop)

    uvloop.run(main())
