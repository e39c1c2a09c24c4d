"""What the agent of a pod and the processes of its shards tell each other, one JSON a line.

Theory of operation. The agent listens on a Unix socket in `DIR/run`; each shard's process has a
thread that keeps a connection to it. The process tells its state when that changes, and twice a
second anyway: a process that says nothing is paused or dead. A thread of its own does it, so a
commit that waits for the medium is not taken for a death. The agent sends orders. If the agent
ends, the process keeps what it has, and tells the next agent. A process that waits for the medium
longer than `BLOCKED_S_MAX` says that, too: a pod that reaches the medium may have the shard then.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from ..runtime.logging import event
from . import sockets

SOCKET_NAME = "agent.sock"
TELL_S = 0.5
UNHEARD_S_MAX = 2.0
BLOCKED_S_MAX = 10.0
RECONNECT_S = 0.1
LINE_BYTES_MAX = 4096


class Mode(StrEnum):
    """`RELEASED`: it had the shard and gave up the log for another pod to take; what came since
    then waits to be told where to go.
    """

    FOLLOWING = "following"
    OWNING = "owning"
    RELEASED = "released"


class ShardState(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard's process says of itself. `epoch` is that under which it has or had the log;
    `close` that it could take the shard with little to catch up; `blocked` that it has done nothing
    for a while, but wait.
    """

    shard: str
    mode: Mode
    epoch: int = 0
    close: bool = False
    blocked: bool = False


class Own(msgspec.Struct, frozen=True, tag="own"):
    """Take the shard."""


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Let another pod have it."""


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Another pod has it now."""

    epoch: int
    address: str


Order = Own | Release | Moved
decode_state = msgspec.json.Decoder(ShardState).decode
_decode_order = msgspec.json.Decoder(Order).decode


def line_of(message: ShardState | Order) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class AgentLink:
    """A shard process's end. `ordered` is called in the link's thread."""

    def __init__(self, run: Path, state: ShardState, ordered: Callable[[Order], object]) -> None:
        self._run = run
        self._state = state
        self._ticked = time.monotonic()
        self._ordered = ordered
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._live, name="agent-link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, state: ShardState) -> None:
        """Tell it now, if anyone listens."""
        self._state = state
        self._wake()

    def tick(self) -> None:
        """To be called every second by what must not be blocked."""
        self._ticked = time.monotonic()

    def close(self) -> None:
        self._closed = True
        self._wake()
        self._thread.join()
        self._wake_read.close()
        self._wake_write.close()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def _live(self) -> None:
        while not self._closed:
            try:
                with sockets.connect(self._run, SOCKET_NAME) as connection:
                    connection.settimeout(UNHEARD_S_MAX)
                    self._talk(connection)
            except (OSError, msgspec.MsgspecError):
                self._pause(None, RECONNECT_S)

    def _talk(self, connection: socket.socket) -> None:
        """Until the agent hangs up or we are closed."""
        held = b""
        while not self._closed:
            blocked = time.monotonic() - self._ticked > BLOCKED_S_MAX
            connection.sendall(line_of(msgspec.structs.replace(self._state, blocked=blocked)))
            if self._pause(connection, TELL_S):
                data = connection.recv(LINE_BYTES_MAX)
                if not data:
                    raise ConnectionResetError
                *lines, held = (held + data).split(b"\n")
                for line in lines:
                    order = _decode_order(line)
                    event("shard_ordered", order=type(order).__name__.lower())
                    self._ordered(order)

    def _pause(self, connection: socket.socket | None, seconds: float) -> bool:
        """Wait; whether the agent said something. Ends early when there is something to tell."""
        watched = [self._wake_read] if connection is None else [self._wake_read, connection]
        readable, _, _ = select.select(watched, [], [], seconds)
        if self._wake_read in readable:
            self._wake_read.recv(LINE_BYTES_MAX)
        return connection in readable
