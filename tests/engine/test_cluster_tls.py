"""The TLS between pods: who holds no certificate of the store's authority is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from objectstore_app.metadata_service import router as routing
from objectstore_app.metadata_service.cluster import ClusterTlsError, cluster_context
from objectstore_app.metadata_service.errors import UnavailableError
from tests.engine.authorities import context
from tests.engine.gateways import GatewayPods


def test_routers_of_another_authority_are_refused(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "ROUTE_WAIT_S_MAX", 0.5)

    async def run() -> None:
        stranger = context(tls, server=False, node="stranger")
        pods = GatewayPods(tmp_path, 1, context(tls, server=True), stranger)
        await pods.start()
        router = pods.router()
        with pytest.raises(UnavailableError):
            await router.users()
        await router.close()
        await pods.stop()

    asyncio.run(run())


def test_files_that_are_not_there_are_named(tls: Path) -> None:
    with pytest.raises(ClusterTlsError, match="absent"):
        cluster_context(tls / "absent.pem", tls / "node.pem", tls / "node.key", server=True)
