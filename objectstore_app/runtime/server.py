"""The HTTP server of one front-end process: HTTP and HTTPS on one listening socket.

Theory of operation. Accepted sockets wait in `_silent` until their first byte can be peeked at:
0x16 begins a TLS handshake, anything else is plain HTTP. A sweep twice a second closes what waited
too long, in whatever state; there is no timer per connection or request. Beyond `connections_max` a
connection is still accepted, told SlowDown and closed; beyond a reserve above it, it is just
closed.

Draining has three steps: not ready any more (answers say `Connection: close`, new connections are
still served), then no new connections, then the requests under way are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl

from ..core import limits as bounds
from .access_log import AccessLog
from .connection import Connection
from .context import ServerContext, ServerLimits
from .http import Application
from .logging import event
from .metrics import Counters

ACCEPT_BATCH = 64
REFUSE_RESERVE = 256
_TLS_HANDSHAKE = 0x16


class HttpServer:
    """Serves one application on listening sockets."""

    def __init__(
        self,
        application: Application,
        *,
        counters: Counters,
        access_log: AccessLog | None = None,
        tls: ssl.SSLContext | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.counters = counters
        self.limits = limits or ServerLimits()
        self._context = ServerContext(application, counters, self.limits, access_log)
        self._tls = tls
        self._listeners: list[socket.socket] = []
        self._resting: list[socket.socket] = []
        self._silent: dict[socket.socket, float] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._sweeper = self.loop.call_later(self.limits.sweep_interval_s, self._sweep)

    @property
    def draining(self) -> bool:
        """The server is on its way out: not ready any more."""
        return self._context.draining

    # --- accepting ---

    def listen(self, listener: socket.socket) -> None:
        """Accept connections from a bound, listening socket; the server closes it when done."""
        listener.setblocking(False)
        # Inherited by accepted sockets: no system call for each of them.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listeners.append(listener)
        self.loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                client, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Mostly out of descriptors: trying on would spin, so wait for the next sweep.
                event("accept_failed", reason=str(error))
                self.loop.remove_reader(listener)
                self._resting.append(listener)
                return
            client.setblocking(False)
            self.counters.connections_accepted += 1
            waiting = len(self._context.connections) + len(self._silent) + len(self._handshakes)
            if waiting >= self.limits.connections_max + REFUSE_RESERVE:
                self.counters.connections_refused += 1
                client.close()
                continue
            self._silent[client] = self.loop.time() + self.limits.header_timeout_s
            self.loop.add_reader(client, self._first_byte, client)

    def _first_byte(self, client: socket.socket) -> None:
        try:
            first = client.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        self.loop.remove_reader(client)
        del self._silent[client]
        secure = first[:1] == bytes([_TLS_HANDSHAKE])
        if not first or (secure and self._tls is None):
            client.close()
            return
        refused = len(self._context.connections) >= self.limits.connections_max
        if refused:
            self.counters.connections_refused += 1
        task = self.loop.create_task(self._connect(client, secure=secure, refused=refused))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, client: socket.socket, *, secure: bool, refused: bool) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: Connection(self._context, secure=secure, refused=refused),
                client,
                ssl=self._tls if secure else None,
                ssl_handshake_timeout=self.limits.header_timeout_s if secure else None,
            )
        except (OSError, TimeoutError):  # the client left, or does not speak TLS as we do
            client.close()

    # --- ending ---

    async def drain(self, grace_s: float, timeout_s: float) -> bool:
        """End in good order; True when every request under way was answered in time.

        For `grace_s` the server is merely not ready any more, so that load balancers notice.
        """
        self._context.draining = True
        if grace_s:
            await asyncio.sleep(grace_s)
        self._resting.clear()
        for listener in self._listeners:
            self._accept(listener)  # who is in the backlog came before the end
            self.loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        finished = await self._wait_until_gone(timeout_s)
        self.abort()
        return finished

    def abort(self) -> None:
        """Cut every connection and stop sweeping."""
        self._sweeper.cancel()
        for client in list(self._silent):
            self._drop_silent(client)
        for connection in list(self._context.connections):
            connection.abort()

    async def _wait_until_gone(self, timeout_s: float) -> bool:
        for connection in list(self._context.connections):
            connection.close_idle()
        for client in list(self._silent):
            self._drop_silent(client)
        if self._handshakes:
            await asyncio.wait(self._handshakes, timeout=timeout_s)
        if not self._context.connections:
            return True
        self._context.gone = self.loop.create_future()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._context.gone, timeout_s)
        return not self._context.connections

    # --- sweeping ---

    def _sweep(self) -> None:
        now = self.loop.time()
        self._sweeper = self.loop.call_later(self.limits.sweep_interval_s, self._sweep)
        for connection in [each for each in self._context.connections if each.deadline < now]:
            connection.expire(now)
        for client in [each for each, deadline in self._silent.items() if deadline < now]:
            self._drop_silent(client)
        resting, self._resting = self._resting, []
        for listener in resting:
            self.loop.add_reader(listener, self._accept, listener)

    def _drop_silent(self, client: socket.socket) -> None:
        del self._silent[client]
        self.loop.remove_reader(client)
        client.close()


def connections_within_limit() -> int:
    """How many connections to serve, such that idle ones never use up the descriptors that reading
    and writing objects needs.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return bounds.CONNECTIONS_MAX
    left = soft - REFUSE_RESERVE - bounds.DESCRIPTORS_KEPT
    return max(1, min(left, bounds.CONNECTIONS_MAX))
