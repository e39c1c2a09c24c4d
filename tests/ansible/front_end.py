"""A front end of a deployment as one process, its data in its folder: `FOLDER` has `service.toml`.

Beside it `shards FOLDER` is the pod that has all shards, in memory.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from objectstore_app.cli.processes import object_controller
from objectstore_app.cli.processes.loop import run_until_stopped
from objectstore_app.cli.processes.pod import PodPlan, pod_store
from objectstore_app.config.service import service_settings
from objectstore_app.runtime.metrics import MetricsBoard
from objectstore_app.runtime.supervisor import ChildContext
from tests.engine.authorities import context
from tests.engine.gateways import GatewayPods


def front_end(folder: Path) -> None:
    settings = service_settings(folder / "service.toml", os.environ)
    plan = PodPlan("object-controller", settings, pod_store(settings), MetricsBoard(1))
    child = ChildContext(0, lambda: None)
    run_until_stopped(lambda stop: object_controller._serve(plan, child, stop))


def shards(folder: Path, tls: Path) -> None:
    async def serve(stop: asyncio.Event) -> None:
        server, client = context(tls, server=True), context(tls, server=False)
        pods = GatewayPods(folder, 1, server, client)
        await pods.start()
        await stop.wait()
        await pods.stop()

    run_until_stopped(serve)


if __name__ == "__main__":
    if sys.argv[1] == "shards":
        shards(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        front_end(Path(sys.argv[1]))
