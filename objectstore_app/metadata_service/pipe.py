"""A client's connection to one shard's writer: mutations in batches, many in flight.

Theory of operation. Mutations submitted in one turn of the loop leave in one frame. When the
connection is lost, what was sent and not answered fails with UnavailableError, for its outcome is
unknown; what was not sent yet waits for the next connection, up to RPC_RECONNECT_S_MAX. A writer
greets with an empty frame, and nothing is sent before: a socket takes connections even while its
process dies. An answer resolves a future and runs no code of the caller, so no caller can break
the connection.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec

from ..core.limits import RPC_RECONNECT_S_MAX
from . import sockets
from .api import MutationResult
from .errors import RecordTooLargeError, UnavailableError
from .machine import Mutation
from .wire import (
    ERROR,
    MESSAGE_BYTES_MAX,
    FrameError,
    FrameReader,
    decode_answers,
    decode_failure,
    encoder,
    frames,
    result_of,
)

RETRY_DELAY_S = 0.02


class _Waiting(msgspec.Struct, gc=False):
    """A mutation on its way."""

    kind: type[Mutation]
    message: bytes
    future: asyncio.Future[MutationResult]
    deadline: float


class MutationPipe(asyncio.Protocol):
    """Belongs to one loop."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._frames = FrameReader()
        self._number = 0
        self._unsent: dict[int, _Waiting] = {}
        self._sent: dict[int, _Waiting] = {}
        self._scheduled = False
        self._greeted = True
        self._closed = False

    async def submit(self, mutation: Mutation) -> MutationResult:
        """Return when the mutation is durable and visible. Raises what it was refused with,
        RecordTooLargeError, UnavailableError.
        """
        if self._closed:
            raise UnavailableError("write", self._name, "this client is closed")
        self._number += 1
        message = encoder.encode((self._number, mutation))
        if len(message) > MESSAGE_BYTES_MAX:
            raise RecordTooLargeError("write", self._name, f"{len(message)} bytes")
        future: asyncio.Future[MutationResult] = self._loop.create_future()
        deadline = self._loop.time() + RPC_RECONNECT_S_MAX
        self._unsent[self._number] = _Waiting(type(mutation), message, future, deadline)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return await future

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._fail(self._unsent, "this client is closed")
        self._fail(self._sent, "this client is closed")

    # --- the protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._frames = FrameReader()
        self._greeted = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(self._sent, "the writer went away, the outcome is unknown")
        if self._unsent:
            self._connect()

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                if not self._greeted:
                    self._greeted = True
                    self._flush()
                for number, kind, raw in decode_answers(content):
                    self._resolve(number, kind, raw)
        except (FrameError, msgspec.MsgspecError):
            if self._transport is not None:
                self._transport.abort()

    # --- helpers ---

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            self._connect()
            return
        if not self._greeted:
            return
        messages = []
        for number, waiting in self._unsent.items():
            if not waiting.future.done():
                messages.append(waiting.message)
                self._sent[number] = waiting
                waiting.message = b""
        self._unsent.clear()
        for content in frames(messages):
            transport.write(content)

    def _resolve(self, number: int, kind: int, raw: msgspec.Raw) -> None:
        waiting = self._sent.pop(number, None)
        if waiting is None or waiting.future.done():
            return
        if kind == ERROR:
            waiting.future.set_exception(decode_failure(raw))
        else:
            waiting.future.set_result(result_of(waiting.kind, raw))

    def _fail(self, waiting: dict[int, _Waiting], why: str) -> None:
        for one in waiting.values():
            if not one.future.done():
                one.future.set_exception(UnavailableError("write", self._name, why))
        waiting.clear()

    def _connect(self) -> None:
        if self._connecting is None and not self._closed:
            self._connecting = self._loop.create_task(self._keep_connecting())
            self._connecting.add_done_callback(self._connect_done)

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.result()

    async def _keep_connecting(self) -> None:
        """Try until connected or until nothing waits any more."""
        if not self._greeted:
            # A dying writer's socket took the connection and never answered.
            self._expire("it does not answer")
            await asyncio.sleep(RETRY_DELAY_S)
        while self._transport is None and self._unsent:
            try:
                sock = sockets.connect(self._folder, self._name)
                await self._loop.create_connection(lambda: self, sock=sock)
            except OSError as error:
                self._expire(str(error))
                await asyncio.sleep(RETRY_DELAY_S)

    def _expire(self, why: str) -> None:
        now = self._loop.time()
        late = {n: one for n, one in self._unsent.items() if one.deadline < now}
        for number in late:
            del self._unsent[number]
        self._fail(late, f"no writer: {why}")
