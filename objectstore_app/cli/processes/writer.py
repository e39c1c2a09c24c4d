"""The process that appends to the shards' logs; it hosts all shards of the store."""

from __future__ import annotations

import contextlib

from ...media.opened import open_media
from ...media.store import open_store
from ...metadata_service.writer import serve_writer
from ...runtime.metrics import Counters
from ...runtime.supervisor import ChildContext
from .loop import run_until_stopped
from .plan import Plan


def main(plan: Plan, context: ChildContext) -> None:
    store = open_store(plan.data, create=False)
    plan.board.store(context.slot, Counters("writer"))
    with contextlib.closing(open_media(store, plan.settings.ceph)) as media:
        run_until_stopped(
            lambda stop: serve_writer(store, ready=context.ready, stop=stop, media=media)
        )
