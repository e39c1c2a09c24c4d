"""The process that appends to the shards' logs; it hosts all shards of the store."""

from __future__ import annotations

import asyncio
import contextlib

from ...media.errors import FencedError
from ...media.opened import Media, open_media
from ...media.store import Store, open_store
from ...metadata_service.writer import serve_writer
from ...runtime.errors import SupersededError
from ...runtime.logging import event
from ...runtime.metrics import Counters
from ...runtime.supervisor import ChildContext
from .loop import run_until_stopped
from .plan import Plan

OWNER_LOOK_S = 2.0
_WAITING = (
    "another store has this one's logs: nothing is served here until that one ends in good order, "
    "or this one is started again, which takes them back"
)


def main(plan: Plan, context: ChildContext) -> None:
    store = open_store(plan.settings.data, create=False)
    plan.board.store(context.slot, Counters("writer"))
    with contextlib.closing(open_media(store, plan.settings.ceph)) as media:

        async def serve(stop: asyncio.Event) -> None:
            if context.superseded:
                await _logs_are_free(store, media, stop)
            if not stop.is_set():
                await serve_writer(store, ready=context.ready, stop=stop, media=media)

        try:
            run_until_stopped(serve)
        except FencedError as error:
            raise SupersededError("write", str(store.path), str(error)) from error


async def _logs_are_free(store: Store, media: Media, stop: asyncio.Event) -> None:
    """Return once nobody has a log of the store any more, or at the stop."""
    loop = asyncio.get_running_loop()
    said: set[str] = set()
    while not stop.is_set():
        owners = {
            owner
            for shard in store.shards
            if (owner := await loop.run_in_executor(None, media.owner_of, shard))
        }
        if not owners:
            return
        if owners != said:
            event("writer_waits", owners="; ".join(sorted(owners)), reason=_WAITING)
            said = owners
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), OWNER_LOOK_S)
