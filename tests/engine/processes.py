"""A writer in a process of its own, forked from this one, for tests that kill it."""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.media.store import Store
from objectstore_app.metadata_service.writer import serve_writer


class WriterProcess:
    """Start it while this process has no loop and no thread; it is ready when this returns."""

    def __init__(self, store: Store) -> None:
        read_end, write_end = os.pipe()
        self.ended = False
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read_end)
            os._exit(_run(store, write_end))
        os.close(write_end)
        said = b""
        while piece := os.read(read_end, 4096):
            said += piece
            if said == b"ready":
                break
        os.close(read_end)
        if said != b"ready":
            os.waitpid(self.pid, 0)
            raise AssertionError(f"the writer did not start: {said.decode()}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        self.ended = True
        os.kill(self.pid, number)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def _run(store: Store, write_end: int) -> int:
    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await serve_writer(store, ready=lambda: os.write(write_end, b"ready"), stop=stop)

    try:
        uvloop.run(serve())
    except ObjectStoreError as error:
        os.write(write_end, str(error).encode())
        return 1
    return 0
