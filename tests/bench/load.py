"""A client for many small requests: connections on one event loop.

A connection sends its next request in the callback that completed the answer before; nothing of an
answer is parsed but where it ends. The client's own processor time is reported, so that a result
limited by the client shows.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

from .conversation import SUCCESS, Answer, AnswerReader, Ask, Conversation
from .outcome import CaseError, Outcome, corrected, percentile


@dataclass
class Tally:
    """Shared by a run's connections: when to stop, what was seen. Times are seconds."""

    stop_at: float = float("inf")
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    read_bytes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    last: float = 0.0

    def note(self, ask: Ask, answer: Answer, size: int, *, began: float, sent: float) -> bool:
        """Count one answer; returns whether the connection is to go on.

        `began` is when the operation started, `sent` when this request of it was sent.
        """
        now = time.perf_counter()
        self.read_bytes += size
        if answer.status not in SUCCESS:
            code = answer.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()
            name = f"{answer.status} {code}".strip()
            self.failures[name] = self.failures.get(name, 0) + 1
            return False
        if ask.completes:
            self.last = now
            self.latencies.append(now - began)
            return now < self.stop_at
        return True

    def outcome(self, started: float, cpu_before: float, correct_for: int = 0) -> Outcome:
        """The run's figures; latencies corrected as wrk does it for so many connections."""
        count, seconds = len(self.latencies), max(self.last - started, 1e-9)
        if correct_for and count:
            ordered = corrected(self.latencies, seconds * correct_for / count)
        else:
            ordered = sorted(self.latencies)
        return Outcome(
            operations=count,
            seconds=seconds,
            read_bytes=self.read_bytes,
            p50_ms=percentile(ordered, 0.5) * 1000,
            p99_ms=percentile(ordered, 0.99) * 1000,
            client_cpu_s=time.process_time() - cpu_before,
            ttfb_ms=percentile(sorted(self.first_bytes), 0.5) * 1000,
            failures=self.failures,
        )


class Speaker(asyncio.Protocol):
    """Holds one conversation. Keeps a body when it is asked for, or when the answer is an error."""

    def __init__(
        self,
        tally: Tally,
        conversation: Conversation,
        done: asyncio.Future[None],
        *,
        quick_ack: bool,
    ) -> None:
        self._tally = tally
        self._conversation = conversation
        self._done = done
        self._quick_ack = quick_ack
        self._reader = AnswerReader()
        self._pieces: list[bytes] = []
        self._waiting = False
        self._began = self._sent = 0.0
        self._fresh = True  # the next request begins an operation

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._ask(lambda: next(self._conversation))

    def _ask(self, step: Callable[[], Ask]) -> None:
        try:
            self._current = ask = step()
        except StopIteration:
            self._transport.close()
            return
        except CaseError as error:
            self._done.set_exception(error)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        if self._fresh:
            self._began = self._sent
        self._fresh = ask.completes
        self._waiting = True
        self._transport.writelines(ask.pieces)

    def data_received(self, data: bytes) -> None:
        if self._waiting:
            self._waiting = False
            self._tally.first_bytes.append(time.perf_counter() - self._sent)
        if self._quick_ack:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        complete = self._reader.feed(data)
        if self._current.keep or self._reader.status not in SUCCESS:
            self._pieces.append(data)
        if complete:
            self._answered()

    def _answered(self) -> None:
        reader = self._reader
        ask = self._current
        wanted = ask.keep or reader.status not in SUCCESS
        answer = Answer(reader.status, reader.head, tuple(self._pieces) if wanted else ())
        size = reader.received
        reader.reset()
        self._pieces.clear()
        if self._tally.note(ask, answer, size, began=self._began, sent=self._sent):
            self._ask(lambda: self._conversation.send(answer))
        else:
            self._conversation.close()
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done.done():
            return
        if exc is not None or self._reader.received or self._waiting:
            self._done.set_exception(exc or ConnectionError("closed within an answer"))
        else:
            self._done.set_result(None)


def measure(
    port: int,
    conversations: list[Conversation],
    *,
    seconds: float | None = None,
    quick_ack: bool = False,
    as_wrk: bool = False,
) -> Outcome:
    """Hold the conversations, one a connection, until they end or `seconds` have passed.

    `quick_ack` acknowledges at once what arrives: a server that leaves Nagle's algorithm on and
    writes head and body apart would otherwise be held up for 40 ms by this side's delay. `as_wrk`
    corrects the latencies as wrk does.
    """

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        tally = Tally()
        cpu_before = time.process_time()
        started = time.perf_counter()
        if seconds is not None:
            tally.stop_at = started + seconds
        done = []
        for conversation in conversations:
            future: asyncio.Future[None] = loop.create_future()
            done.append(future)
            speaker = partial(Speaker, tally, conversation, future, quick_ack=quick_ack)
            await loop.create_connection(speaker, "127.0.0.1", port)
        await asyncio.gather(*done)
        return tally.outcome(started, cpu_before, len(conversations) if as_wrk else 0)

    return uvloop.run(main())
