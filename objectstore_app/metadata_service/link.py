"""A client's end of a connection to another process of the store: calls in batches, many in flight.

Theory of operation. Messages started in one turn of the loop leave in one frame. When the
connection is lost it is made again as soon as something waits: what was not sent yet waits for the
next one, `patience_s` at most, and fails with UnsentError then; what was sent and not answered
fails with UnavailableError, for its outcome is unknown. Calls may have a `tag`, by which those
under way can be given up. A peer that greets (an empty frame) is sent nothing before: a socket
takes connections even while its process dies. A peer that leaves a call unanswered for ANSWER_S_MAX
hangs: the connection is given up with all that is in flight on it. A call that was started with a
bound of its own ends by then, its connection stays. An answer resolves a future and
runs no code of the caller, so no caller can break the connection.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, cast

import msgspec

from ..core.errors import ObjectStoreError
from ..core.limits import RPC_FRAME_BYTES_MAX, RPC_RECONNECT_S_MAX
from .errors import RecordTooLargeError, UnavailableError, UnsentError
from .wire import (
    ERROR,
    MESSAGE_BYTES_MAX,
    FrameError,
    FrameReader,
    decode_answers,
    decode_failure,
    encoder,
    frames,
)

WATCH_S = 1.0


class _Waiting(msgspec.Struct, gc=False):
    """A call on its way."""

    message: bytes
    future: asyncio.Future[msgspec.Raw]
    tag: int
    send_by: float
    end_by: float
    answer_by: float = 0.0


class Link(asyncio.BufferedProtocol, ABC):
    """Belongs to one loop. A subclass says how to connect and what a peer is like."""

    OPERATION: ClassVar[str]
    RETRY_DELAY_S: ClassVar[float]
    ANSWER_S_MAX: ClassVar[float]
    GREETS: ClassVar[bool]
    ABSENT: ClassVar[str]
    SILENT: ClassVar[str]

    def __init__(self, name: str, frame_bytes_max: int = RPC_FRAME_BYTES_MAX) -> None:
        self._name = name
        self._frame_bytes_max = frame_bytes_max
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._frames = FrameReader(frame_bytes_max)
        self._number = 0
        self._unsent: dict[int, _Waiting] = {}
        self._sent: dict[int, _Waiting] = {}
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._heard = True
        self._closed = False

    @abstractmethod
    async def _open(self) -> None:
        """Connect with `self` as the protocol. Raises OSError."""

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def patience_s(self) -> float:
        """How long a call waits for a connection."""
        return RPC_RECONNECT_S_MAX

    async def ask_all(
        self, contents: Iterable[tuple[object, ...]]
    ) -> list[msgspec.Raw | ObjectStoreError]:
        """What answers each of them, sent together; what one raises stands in its answer's place.
        Raises RecordTooLargeError, UnavailableError where nothing was sent.
        """
        futures = [self.start(content) for content in contents]
        answers: list[msgspec.Raw | ObjectStoreError] = []
        try:
            for future in futures:
                try:
                    answers.append(await future)
                except ObjectStoreError as error:
                    answers.append(error)
        finally:
            for future in futures:
                future.cancel()
        return answers

    def start(
        self, content: tuple[object, ...], *, tag: int = 0, within_s: float = math.inf
    ) -> asyncio.Future[msgspec.Raw]:
        """Send `content` behind a number; the future gets what answers it, or raises what the peer
        raised, UnavailableError, at the latest `within_s` and WATCH_S from now. Raises
        RecordTooLargeError, UnsentError at once.
        """
        if self._closed:
            raise UnsentError(self.OPERATION, self._name, "this client is closed")
        self._number += 1
        message = encoder.encode((self._number, *content))
        if len(message) > MESSAGE_BYTES_MAX:
            raise RecordTooLargeError(self.OPERATION, self._name, f"{len(message)} bytes")
        future: asyncio.Future[msgspec.Raw] = self._loop.create_future()
        now = self._loop.time()
        end_by = now + within_s
        send_by = min(now + self.patience_s, end_by)
        self._unsent[self._number] = _Waiting(message, future, tag, send_by, end_by)
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_S, self._look)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return future

    @property
    def last(self) -> int:
        """The number of the call that was started last."""
        return self._number

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._unsent or self._sent)

    def give_up(self, tag: int, last: int, why: str) -> None:
        """End what is under way of that tag, up to the call `last`: others are asked instead."""
        for calls, kind in ((self._unsent, UnsentError), (self._sent, UnavailableError)):
            given_up = {n: one for n, one in calls.items() if one.tag == tag and n <= last}
            for number in given_up:
                del calls[number]
            self._fail(given_up, kind, why)

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        self._fail(self._unsent, UnsentError, "this client is closed")
        self._fail(self._sent, UnavailableError, "this client is closed")

    # --- the protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._frames = FrameReader(self._frame_bytes_max)
        self._heard = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(self._sent, UnavailableError, "the connection was lost, the outcome is unknown")
        self._connect()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for content in self._frames.received(nbytes):
                if not self._heard:
                    self._heard = True
                    self._flush()
                for number, kind, raw in decode_answers(bytes(content)):
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
        if self.GREETS and not self._heard:
            return
        messages = []
        answer_by = self._loop.time() + self.ANSWER_S_MAX
        for number, waiting in self._unsent.items():
            if not waiting.future.done():
                messages.append(waiting.message)
                self._sent[number] = waiting
                waiting.answer_by = answer_by
                waiting.message = b""
        self._unsent.clear()
        for content in frames(messages):
            transport.write(content)

    def _look(self) -> None:
        """Give up what waits for too long; the oldest call comes first."""
        self._watch = None
        oldest = next(iter(self._sent.values()), None)
        if oldest is not None and oldest.answer_by < self._loop.time():
            self._heard = False
            if self._transport is not None:
                self._transport.abort()
        now = self._loop.time()
        late = {number: one for number, one in self._sent.items() if one.end_by < now}
        for number in late:
            del self._sent[number]
        self._fail(late, UnavailableError, "no answer in time, the outcome is unknown")
        self._expire(self.SILENT)
        if self._sent or self._unsent:
            self._watch = self._loop.call_later(WATCH_S, self._look)

    def _resolve(self, number: int, kind: int, raw: msgspec.Raw) -> None:
        waiting = self._sent.pop(number, None)
        if waiting is None or waiting.future.done():
            return
        if kind == ERROR:
            waiting.future.set_exception(decode_failure(raw))
        else:
            waiting.future.set_result(raw)

    def _fail(self, waiting: dict[int, _Waiting], kind: type[UnavailableError], why: str) -> None:
        for one in waiting.values():
            if not one.future.done():
                one.future.set_exception(kind(self.OPERATION, self._name, why))
        waiting.clear()

    def _connect(self) -> None:
        if self._connecting is None and not self._closed and self._unsent:
            self._connecting = self._loop.create_task(self._keep_connecting())
            self._connecting.add_done_callback(self._connect_done)

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.result()

    async def _keep_connecting(self) -> None:
        """Try until connected or until nothing waits any more."""
        if not self._heard:
            # What takes connections and never answers on them is as good as none: wait between
            # attempts, and not for ever.
            self._expire(self.SILENT)
            await asyncio.sleep(self.RETRY_DELAY_S)
        while self._transport is None and self._unsent:
            try:
                await self._open()
            except OSError as error:
                self._expire(str(error) or "timed out")
                await asyncio.sleep(self.RETRY_DELAY_S)

    def _expire(self, why: str) -> None:
        now = self._loop.time()
        late = {n: one for n, one in self._unsent.items() if one.send_by < now}
        for number in late:
            del self._unsent[number]
        self._fail(late, UnsentError, f"{self.ABSENT}: {why}")
