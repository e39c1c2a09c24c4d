"""A writer over logs on RADOS in a process of its own, for tests that stop and kill it.

It is started anew, not forked: librados' threads and a fork do not go together.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import uvloop

from objectstore_app.config.ceph import CephPools, CephSettings
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.limits import RADOS_SEGMENT_BYTES_MAX
from objectstore_app.media.rados.media import RadosMedia
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service import uploads
from objectstore_app.metadata_service.writer import serve_writer
from tests.ceph.cluster import POOLS
from tests.engine.crash_load import PART_BYTES

READY = "ready"
END_S_MAX = 30.0
_PDEATHSIG = 1


class RadosWriter:
    """Both shards of a store: views in its folder, logs on RADOS. Ready when this returns."""

    def __init__(
        self, store: Store, ceph: Path, namespace: str, segment_bytes_max: int = 0
    ) -> None:
        argv = (str(store.path), str(ceph / "ceph.conf"), namespace, str(segment_bytes_max))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ceph.writers", *argv],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != READY:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the writer did not start: {said}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait until it ended by itself; its exit code."""
        return self._process.wait(END_S_MAX)

    def last_words(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(END_S_MAX)

    def stop(self) -> int:
        self._process.terminate()
        return self.end()


def main() -> int:
    folder, conf, namespace, segment_bytes_max = sys.argv[1:]
    uploads.PART_BYTES_MIN = PART_BYTES
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    store = open_store(folder)
    ceph = CephSettings(Path(conf), "client.store", CephPools(*POOLS), namespace)
    media = RadosMedia(
        store, ceph, segment_bytes_max=int(segment_bytes_max) or RADOS_SEGMENT_BYTES_MAX
    )

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

        def ready() -> None:
            print(READY, flush=True)

        await serve_writer(store, ready=ready, stop=stop, media=media)

    try:
        uvloop.run(serve())
    except ObjectStoreError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        media.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
