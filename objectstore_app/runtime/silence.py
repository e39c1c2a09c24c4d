"""How long a TCP connection may hear nothing of its peer before the kernel ends it.

A machine that is gone, or parted from this one, answers nothing, not even that: without this, what
was sent to it is repeated for a quarter of an hour. A peer whose process hangs is still heard of by
its kernel, so that this says nothing of it; one that takes no more bytes for as long is given up.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

SILENCE_S_MAX = 4
IDLE_S, INTERVAL_S, PROBES = 2, 1, 2


def bound_silence(connection: socket.socket) -> None:
    """End this connection SILENCE_S_MAX after its peer was last heard of."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S_MAX * 1000)


def bound_silence_of(transport: asyncio.BaseTransport) -> None:
    """The same of a transport's connection; what a loop shows of its socket sets no options."""
    shown = cast("socket.socket", transport.get_extra_info("socket"))
    with shown.dup() as connection:
        bound_silence(connection)
