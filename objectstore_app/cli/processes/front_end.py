"""The process that speaks S3, over the data folder beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from functools import partial

from ...atlas.state import load_state
from ...config.settings import first_administrator_keys
from ...core.ids import UserId
from ...media.store import Store, open_store
from ...metadata_service.api import MetadataClient, RemoveUser
from ...metadata_service.client import EmbeddedClient
from ...metadata_service.errors import UnavailableError, UserMissingError
from ...object_controller.people import ensure_first_administrator
from ...runtime.metrics import AtlasFacts, StoreFacts
from ...runtime.supervisor import ChildContext
from ...s3_adapter.services import Services
from .loop import run_until_stopped
from .plan import Plan
from .s3_server import S3Server, open_services

CHECK_TIMEOUT_S = 2.0


def main(plan: Plan, context: ChildContext, number: int) -> None:
    """`number` tells which of the plan's listeners is its own."""
    listener = plan.listeners[number]
    plan.close_listeners(but=listener)
    front_end = _FrontEnd(
        plan, open_store(plan.settings.data, create=False), socket.socket(fileno=listener)
    )
    run_until_stopped(lambda stop: front_end.serve(context, stop, first=number == 0))


@dataclass(frozen=True, slots=True)
class _FrontEnd:
    plan: Plan
    store: Store
    listener: socket.socket

    async def serve(self, context: ChildContext, stop: asyncio.Event, *, first: bool) -> None:
        """The `first` of the front ends makes the first administrator."""
        settings = self.plan.settings
        async with contextlib.AsyncExitStack() as held:
            client = EmbeddedClient(self.store)
            held.push_async_callback(client.close)
            services = open_services(held, client, self.store, settings, stop)
            if first:
                await _first_administrator(services, first_administrator_keys(os.environ))
            server = S3Server(
                role="store",
                board=self.plan.board,
                certificate=self.plan.certificate,
                log_format=settings.log_format,
                drain_grace_s=settings.drain_grace_s,
                checks={"metadata": partial(_writer_answers, client)},
                facts=partial(_store_facts, self.store, client),
                domains=settings.domains,
            )
            await server.serve(services, self.listener, context, stop)


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
