"""Calls to a gateway that is cut off meanwhile; run in a network namespace of its own.

Prints one line of JSON: for each call how it failed, and how many seconds after the cut.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import uvloop

from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.metadata_service.calls import PING
from objectstore_app.metadata_service.gateway_link import GatewayLink
from objectstore_app.metadata_service.shard_gateway import _Peer
from tests.engine.authorities import context
from tests.engine.pods import until

RULES = """table inet parted {
  chain arriving {
    type filter hook input priority filter
    tcp dport %(port)s drop
    tcp sport %(port)s drop
  }
}
"""


def cut_off(port: int) -> None:
    subprocess.run(["nft", "--file", "-"], input=RULES % {"port": port}, text=True, check=True)


class _Deaf:
    """A gateway that takes calls, answers none, and knows who is connected."""

    def __init__(self) -> None:
        self.peers: set[_Peer] = set()


class _DeafPeer(_Peer):
    def buffer_updated(self, nbytes: int) -> None:
        list(self._frames.received(nbytes))


async def main(tls: Path) -> dict[str, tuple[str, float]]:
    loop = asyncio.get_running_loop()
    gateway = _Deaf()
    server = await loop.create_server(
        lambda: _DeafPeer(gateway), "127.0.0.1", 0, ssl=context(tls, server=True)
    )
    port = server.sockets[0].getsockname()[1]
    client = context(tls, server=False)
    early, late = (GatewayLink(f"127.0.0.1:{port}", client) for _ in range(2))
    calls = {"sent before": early.start((PING, 0, ()))}
    warm = late.start((PING, 0, ()), within_s=0)
    await asyncio.wait([warm], timeout=3)
    warm.exception()
    await until(lambda: len(gateway.peers) == 2, "two connections")
    await asyncio.to_thread(cut_off, port)
    cut = loop.time()
    calls["sent after"] = late.start((PING, 0, ()))
    ended: dict[str, tuple[str, float]] = {}

    async def follow(name: str) -> None:
        try:
            await calls[name]
        except ObjectStoreError as error:
            ended[name] = (type(error).__name__, loop.time() - cut)

    async def forgotten() -> None:
        await until(lambda: not gateway.peers, "the gateway forgets its peers")
        ended["gateway"] = ("", loop.time() - cut)

    await asyncio.wait(
        [loop.create_task(one) for one in (*(follow(name) for name in calls), forgotten())],
        timeout=12,
    )
    for link in (early, late):
        await link.close()
    server.close()
    return ended


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(uvloop.run(main(Path(sys.argv[1])))))
