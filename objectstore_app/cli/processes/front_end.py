"""The process that speaks S3, over the data folder beside it or over that of another node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...atlas.state import load_state
from ...config.settings import first_administrator_keys
from ...core.clock import now_ms
from ...core.ids import UserId
from ...iam.keyring import Keyring
from ...media.api import ChunkWriter, ExtentReader
from ...media.opened import open_media
from ...media.store import Store, open_store
from ...metadata_service.api import MetadataClient, RemoveUser
from ...metadata_service.client import EmbeddedClient
from ...metadata_service.errors import UnavailableError, UserMissingError
from ...object_controller.people import ensure_first_administrator
from ...runtime.errors import StartError
from ...runtime.metrics import AtlasFacts, StoreFacts
from ...runtime.supervisor import ChildContext
from ...s3_adapter.services import Services
from .loop import run_until_stopped
from .plan import Plan
from .s3_server import S3Server

CHECK_TIMEOUT_S = 2.0


def main(plan: Plan, context: ChildContext, number: int) -> None:
    """`number` tells which of the plan's listeners is its own."""
    listener = plan.listeners[number]
    plan.close_listeners(but=listener)
    store = None if plan.settings.data is None else open_store(plan.data, create=False)
    front_end = _FrontEnd(plan, store, socket.socket(fileno=listener))
    run_until_stopped(lambda stop: front_end.serve(context, stop, first=number == 0))


@dataclass(frozen=True, slots=True)
class _FrontEnd:
    plan: Plan
    store: Store | None
    listener: socket.socket

    async def serve(self, context: ChildContext, stop: asyncio.Event, *, first: bool) -> None:
        """The `first` of the front ends makes the first administrator."""
        async with contextlib.AsyncExitStack() as held:
            services = await self._services(held, stop)
            if first and self.store is not None:
                await _first_administrator(services, first_administrator_keys(os.environ))
            settings = self.plan.settings
            server = S3Server(
                role="front-end" if self.store is None else "store",
                board=self.plan.board,
                certificate=self.plan.certificate,
                log_format=settings.log_format,
                drain_grace_s=settings.drain_grace_s,
                checks={"metadata": lambda: _writer_answers(services.metadata)},
                domains=settings.domains,
                facts=self._facts(services.metadata),
            )
            await server.serve(services, self.listener, context, stop)

    async def _services(self, held: contextlib.AsyncExitStack, stop: asyncio.Event) -> Services:
        settings = self.plan.settings

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
        # A front end beside its data needs neither of them.
        from ...metadata_service.cluster import cluster_context
        from ...metadata_service.remote import RemoteStore

        remote = RemoteStore(
            upstream.host,
            upstream.port,
            cluster_context(tls.ca, tls.certificate, tls.key, server=False),
        )
        held.push_async_callback(remote.close)
        keyring = Keyring(_read_master_key(master_key))
        return services(remote.client, remote.reader, remote.chunks, keyring)

    def _facts(self, metadata: MetadataClient) -> Callable[[], Awaitable[StoreFacts]] | None:
        """None on a node without data."""
        if self.store is None or not isinstance(metadata, EmbeddedClient):
            return None
        return partial(_store_facts, self.store, metadata)


async def _store_facts(store: Store, client: EmbeddedClient) -> StoreFacts:
    buckets, usage = client.total_usage()
    state = load_state(store)
    return StoreFacts(
        buckets=buckets,
        objects=usage.objects,
        versions=usage.versions,
        size_bytes=usage.size_bytes,
        uploads=usage.uploads,
        atlas=AtlasFacts(
            damage=len(state.damage) + state.damage_left_out,
            scrubs=state.scrubs_completed,
            counters=state.counters,
            passes={name: last.ended_ms / 1000 for name, last in state.passes.items()},
        ),
    )


async def _first_administrator(services: Services, given: tuple[str, str]) -> None:
    """Make the first administrator of a new store; show keys that were made here, once."""
    identity = await ensure_first_administrator(services.metadata, services.keyring, *given)
    if identity is not None and not given[0]:
        print(
            "first administrator (shown this once)\n"
            f"  access key    {identity.access_key}\n"
            f"  secret key    {identity.secret_key}",
            flush=True,
        )


async def _writer_answers(metadata: MetadataClient) -> None:
    """Return when a mutation makes its way to the writer and back. Raises: UnavailableError."""
    await asyncio.gather(_ask_writer(metadata))  # a timeout needs a task of its own


async def _ask_writer(metadata: MetadataClient) -> None:
    """Nobody has the empty id, so nothing changes and nothing is flushed."""
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
