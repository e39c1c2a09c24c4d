"""The process that works on what is stored, and ends when nothing is due any more."""

from __future__ import annotations

import asyncio
import contextlib

from ...atlas.pace import Pace, lowest_priority
from ...atlas.passes import run_passes
from ...core.clock import now_ms
from ...media.opened import open_media
from ...media.store import StoreInUseError, open_store
from ...runtime.logging import event
from ...runtime.supervisor import ChildContext
from .loop import run_until_stopped
from .plan import Plan


def main(plan: Plan, context: ChildContext) -> None:
    context.ready()
    lowest_priority()
    store, settings = open_store(plan.settings.data, create=False), plan.settings.atlas

    async def work(stop: asyncio.Event) -> None:
        pace = Pace(settings.bytes_per_s, stop=stop)
        with contextlib.closing(open_media(store, plan.settings.ceph)) as media:
            try:
                await run_passes(store, media, settings, names=None, pace=pace, now_ms=now_ms)
            except StoreInUseError as error:
                event("atlas_is_at_work", reason=str(error))

    run_until_stopped(work)
