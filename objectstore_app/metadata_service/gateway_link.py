"""A client's connection to the gateway of a pod (`calls.py`), and how a pod asks its own one.

One to a machine that is gone, or parted from this one, ends within seconds (`runtime/silence.py`)
and with it what is in flight on it; a gateway that hangs is the link's own matter (`link.py`).
"""

from __future__ import annotations

import asyncio
import ssl

from ..core.errors import ObjectStoreError
from ..core.limits import CALL_S_MAX
from ..runtime.silence import bound_silence_of
from .calls import CALL_FRAME_BYTES_MAX, PING
from .link import Link

CONNECT_S_MAX = 2.0
ASK_S = 0.5


class GatewayLink(Link):
    """To one gateway, for all shards of its pod: the shard is a call's tag."""

    OPERATION = "call"
    RETRY_DELAY_S = 0.05
    ANSWER_S_MAX = CALL_S_MAX
    GREETS = False
    ABSENT = "cannot be reached"
    SILENT = "it drops the connection"  # it refuses our certificate, say

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        super().__init__(f"gateway {address}", CALL_FRAME_BYTES_MAX)
        host, _, port = address.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._context = context

    @property
    def patience_s(self) -> float:
        """Short: the router looks at the map again meanwhile."""
        return 0.25

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        bound_silence_of(transport)
        super().connection_made(transport)

    async def _open(self) -> None:
        async with asyncio.timeout(CONNECT_S_MAX):
            await self._loop.create_connection(
                lambda: self, self._host, self._port, ssl=self._context
            )


class OwnGateway:
    """Asks the gateway at an address, twice a second, whether it answers: over the network and with
    TLS, as routers do, so that it hears what they would hear. Belongs to one loop.
    """

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self._link = GatewayLink(address, context)
        self._loop = asyncio.get_running_loop()
        self._answered = self._loop.time()
        self._asking = self._loop.create_task(self._ask())

    def silent_s(self) -> float:
        """For how long it has answered nothing."""
        return self._loop.time() - self._answered

    async def close(self) -> None:
        self._asking.cancel()
        await asyncio.wait([self._asking])
        await self._link.close()

    async def _ask(self) -> None:
        while True:
            asked = self._loop.time()
            try:
                await self._link.start((PING, 0, ()))
            except ObjectStoreError:
                pass  # its silence says it
            else:
                self._answered = asked
            await asyncio.sleep(ASK_S)
