"""How a pod learns that its own gateway does not answer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from objectstore_app.metadata_service import gateway_link
from objectstore_app.metadata_service.gateway_link import OwnGateway
from objectstore_app.runtime.silence import SILENCE_S_MAX
from tests.engine.authorities import context
from tests.engine.gateways import GatewayPods
from tests.engine.pods import until
from tests.engine.test_router import SilentServer


def test_gateway_that_answers_is_never_silent_for_long_and_one_that_does_not_is(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_link, "ASK_S", 0.02)

    async def run() -> None:
        server, client = context(tls, server=True), context(tls, server=False)
        pods = GatewayPods(tmp_path, 1, server, client)
        await pods.start()
        well = OwnGateway(pods.pods[0].address, client)
        async with SilentServer(server) as address:
            silent, absent = OwnGateway(address, client), OwnGateway("127.0.0.1:1", client)
            await until(lambda: silent.silent_s() > 0.5 and absent.silent_s() > 0.5, "silence")
            assert well.silent_s() < 0.5
            pods.media.gate.clear()  # the medium answers nothing: that is not the gateway's fault
            await until(lambda: silent.silent_s() > 1, "silence")
            assert well.silent_s() < 0.5
            pods.media.gate.set()
            for one in (well, silent, absent):
                await one.close()
        await pods.stop()

    asyncio.run(run())


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft"),
    reason="cuts a network namespace in two, which needs root and nft",
)
def test_calls_to_a_gateway_beyond_a_cut_end_within_seconds_on_both_ends(tls: Path) -> None:
    """Whether they had been sent before it or not; nothing says that the connections are over."""
    run = ["unshare", "--net", sys.executable, "-m", "tests.engine.parted", str(tls)]
    ended = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, timeout=60).stdout)
    assert {name: how for name, (how, _) in ended.items()} == {
        "sent before": "UnavailableError",
        "sent after": "UnavailableError",
        "gateway": "",
    }
    assert max(after_s for _, after_s in ended.values()) < SILENCE_S_MAX + 3
