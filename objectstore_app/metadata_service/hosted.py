"""A shard as its owner's process hosts it: its queue, its group commits, the connections that feed
it.

Theory of operation. Requests gather in the queue while a commit runs; a turn of the loop commits
all of them, one append after another, and answers each append's at once. Where an append is a round
trip to other machines it costs hardly more for many requests than for few, and who comes a moment
after it began waits for all of it. So the next one begins once those who were answered together
have stopped coming back, or half of what an append takes later; one client alone never waits.

It is over with the shard, for good, at the first of these; whatever is heard later changes nothing:

    fenced      the guard refused an append, or a look at the head showed another owner while no
                outcome was unknown. What is in the queue was in no append: what was appended was
                also answered, and nothing is appended any more. So nothing of it was decided or
                ever will be here, and whoever hosts the shard may tell its senders to ask the new
                owner (`take_undecided`).
    in doubt    an append, or anything else, failed in another way. It may be in the log, or get
                there until the guard of a new owner is in place; then that owner replays it and it
                is decided. So it must not be sent again on our word: the process has to end,
                unanswered, and the senders learn that they cannot know.

Between the look that showed another owner and the end of this one no commit may run: with the head
taken and the guard not yet, its append might go through or fail in doubt. An append that went
through before is in front of the new owner's guard, which replays it, so its answer was right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import msgspec

from ..core.errors import ObjectStoreError, invariant
from ..core.limits import COMMIT_REQUESTS_MAX, GATHER_COMMIT_S_MIN, GATHER_STEP_S
from ..media.errors import FencedError
from ..runtime.logging import event
from .checkpoints import Checkpointer
from .machine import Mutation
from .ownership import OwnershipWatch
from .shard import Outcome, Shard
from .wire import (
    ERROR,
    RESULT,
    FrameError,
    FrameReader,
    decode_requests,
    encode_failure,
    frame,
    frame_of,
)

# A peer that does not read its answers is dropped before they fill the memory.
UNREAD_ANSWER_BYTES_MAX = 64 * 1024 * 1024
# As many answers as surely fit a frame, for the largest holds an upload's attributes.
ANSWERS_PER_FRAME = 128

Answer = tuple[int, int, object]


class Target(Protocol):
    """What a connection's requests go to."""

    def submit(self, connection: Connection, requests: list[tuple[int, Mutation]]) -> None: ...


class Counted(Protocol):
    """What readers of the directory watch: it moves on before a commit is answered."""

    def advance(self) -> None: ...


class Queued(NamedTuple):
    """A request and who is to be answered."""

    connection: Connection
    number: int
    mutation: Mutation

    def refuse(self, error: ObjectStoreError) -> None:
        self.connection.answer([(self.number, ERROR, encode_failure(error))])


class HostedShard:
    """A shard, its queue and the connections that feed it."""

    def __init__(
        self,
        shard: Shard,
        view_path: Path,
        generation: Counted | None,
        fail: Callable[[str], None],
    ) -> None:
        self.shard = shard
        self.fenced = False
        self._over = False
        self._checkpointer = Checkpointer(shard.view, view_path, fail)
        self._watch = OwnershipWatch(shard.medium, self._lost)
        self._generation = generation
        self._fail = fail
        self._queue: list[Queued] = []
        self._gather_until = 0.0
        self._loop = asyncio.get_running_loop()

    def submit(self, connection: Connection, requests: list[tuple[int, Mutation]]) -> None:
        if not self._queue:
            self._loop.call_soon(self._gather, 0)
        self._queue.extend(Queued(connection, number, mutation) for number, mutation in requests)

    def _gather(self, seen: int) -> None:
        """Commit, unless more still come than were seen to wait a moment ago."""
        waiting = len(self._queue)
        if seen < waiting and time.monotonic() < self._gather_until:
            self._loop.call_later(GATHER_STEP_S, self._gather, waiting)
        else:
            self.commit()

    async def close(self, *, release: bool) -> None:
        """`release` the log for who waits for it, unless this process is to be started again."""
        await self._watch.close()
        await self._checkpointer.close()
        self.shard.close(release=release)

    def _lost(self) -> None:
        self._end(f"another store has taken over the log of shard {self.shard.shard}", fenced=True)

    def _end(self, reason: str, *, fenced: bool) -> None:
        if not self._over:
            self._over, self.fenced = True, fenced
            self._fail(reason)

    def commit(self) -> None:
        """Commit all that waits and answer it, unless the shard is over."""
        while self._queue and not self._over:
            begun = time.monotonic()
            outcomes = self._commit_some()
            if outcomes is None:
                return
            ended = time.monotonic()
            together = len(outcomes) > 1 and ended - begun >= GATHER_COMMIT_S_MIN
            self._gather_until = ended + (ended - begun) / 2 if together else 0.0
            decided, self._queue = self._queue[: len(outcomes)], self._queue[len(outcomes) :]
            if self._generation is not None:
                self._generation.advance()
            answers: dict[Connection, list[Answer]] = {}
            for (connection, number, _), outcome in zip(decided, outcomes, strict=True):
                if isinstance(outcome, ObjectStoreError):
                    answer: Answer = (number, ERROR, encode_failure(outcome))
                else:
                    answer = (number, RESULT, outcome)
                answers.setdefault(connection, []).append(answer)
            for connection, messages in answers.items():
                connection.answer(messages)

    def take_undecided(self) -> list[Queued]:
        """What nothing was decided about: all that waits, once the shard is fenced or before it
        is over. It is the caller's to answer.
        """
        invariant(self.fenced or not self._over, "what is in doubt is answered by nobody")
        queue, self._queue = self._queue, []
        return queue

    def _commit_some(self) -> list[Outcome] | None:
        """The outcomes of the first requests in the queue; None when the process must not go on."""
        outcomes: list[Outcome] | None = None
        reason, fenced = f"a commit of {self.shard.shard} failed", False
        first = self._queue[:COMMIT_REQUESTS_MAX]
        try:
            outcomes = self.shard.commit_some([each.mutation for each in first])
        except (ObjectStoreError, OSError) as error:
            reason, fenced = str(error), isinstance(error, FencedError)
        finally:
            # Whatever it was, even what nobody expects: the process must not live on.
            if outcomes is None:
                self._end(reason, fenced=fenced)
        return outcomes


class Connection(asyncio.BufferedProtocol):
    """One front end's connection to one shard."""

    def __init__(self, target: Target, connections: set[Connection]) -> None:
        self._target = target
        self._connections = connections
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        # The greeting: a peer sends nothing before it knows that a living writer took it.
        self._transport.write(frame([]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for content in self._frames.received(nbytes):
                self._target.submit(self, decode_requests(content))
        except (FrameError, msgspec.MsgspecError) as error:
            event("peer_dropped", reason=str(error))
            self.abort()

    def answer(self, messages: list[Answer]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for start in range(0, len(messages), ANSWERS_PER_FRAME):
            transport.write(frame_of(messages[start : start + ANSWERS_PER_FRAME]))
        if transport.get_write_buffer_size() > UNREAD_ANSWER_BYTES_MAX:
            event("peer_dropped", reason="does not read its answers")
            self.abort()

    def abort(self) -> None:
        self.end(answered=False)

    def end(self, *, answered: bool) -> None:
        """Close, sending first what is written when `answered`."""
        if self._transport is None:
            return
        if answered:
            self._transport.close()
        else:
            self._transport.abort()
