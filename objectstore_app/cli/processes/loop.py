"""What the processes that serve have in common: a loop that runs until SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine

import uvloop

GC_THRESHOLD = 20_000


def run_until_stopped(serve: Callable[[asyncio.Event], Coroutine[object, object, None]]) -> None:
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
