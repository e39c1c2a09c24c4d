"""One HTTP connection: bytes from the transport to the application and back.

Theory of operation. The transport's callbacks note what happened (a head, pieces of body, the end,
an error, room to write). A *turn* answers one request: run the application, write the response, get
rid of what is left of the body. A turn is a coroutine that the callback which completes its head
starts at once, and which goes on by the callbacks of what it waits for (`driving`): no task is made
for it. There is one turn and so one waiter at a time; what is pipelined stays unparsed until then.

Nothing here has a timer of its own. A connection states until when its present wait may last
(`deadline`) and the server's sweep calls `expire` when that is past.

A connection goes on after every answer unless the framing is lost, the client or the application
asked to close it, the server drains, or the rest of the body is too long to be thrown away. It is
then closed such that the answer still arrives: written, half-closed, and read on for a moment,
because closing a socket with unread bytes resets it and may destroy the answer on its way.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine
from typing import cast

from ..core.errors import InvariantError, invariant
from ..core.limits import DISCARD_BYTES_MAX, PIPELINED_BYTES_MAX
from ..protocol.errors import S3Error
from ..protocol.http1 import (
    CONTINUE,
    LAST_CHUNK,
    Data,
    End,
    Event,
    Head,
    HttpError,
    RequestReader,
    chunk_head,
)
from .context import ServerContext
from .driving import Driven
from .duplex import ConnectionCutError, Duplex
from .http import FileRange, Pieces, Request, Response
from .logging import event, fault

JOIN_BYTES_MAX = 32 * 1024
"""A body up to this size is copied behind its head: one buffer is cheaper than two."""


class EmptyBody:
    """The body of a request that has none."""

    length: int | None = 0

    async def read(self) -> bytes:
        return b""


_EMPTY_BODY = EmptyBody()
_NO_HEAD = Head("-", b"-", {}, (1, 1), False, 0, False)


class Connection(Duplex):
    """Serves the requests of one client connection with the server's application."""

    def __init__(self, context: ServerContext, *, secure: bool, refused: bool) -> None:
        super().__init__(context.loop, context.counters, context.limits.body_stall_timeout_s)
        self._context = context
        self._secure = secure
        self._refused = refused
        self._reader = RequestReader()
        self._peer = ""
        self._turning = False
        """A turn is under way."""
        self._busy = False
        """A request's head has arrived and its response is not finished."""
        self._head: Head | None = None
        self._head_begun = False
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._body_bytes = 0
        self._body_ended = True
        self._discarding = False
        self._error: HttpError | None = None
        self._eof = False
        self._over = False
        self._sent_bytes = 0

    # --- transport callbacks: note, then stir ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        self.deadline = self._loop.time() + self._context.limits.header_timeout_s
        self._context.opened(self)

    def data_received(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        if self._error is not None:
            return
        if self._head is not None and self._body_ended and not self._reading_paused:
            # Bytes of a pipelined request: kept unparsed by the reader, within bounds.
            self._buffered += len(data)
            if self._buffered > PIPELINED_BYTES_MAX:
                self._pause_reading()
        try:
            events = self._reader.feed(data)
        except HttpError as error:
            self._error = error
            self._stir()
            return
        if events:
            self._take(events)
            if self._turning:
                self._wake()
            else:
                self._proceed()
        elif self._head is None and not self._head_begun:
            self._head_begun = True
            self.deadline = self._loop.time() + self._context.limits.header_timeout_s

    def eof_received(self) -> bool:
        self._eof = True
        try:
            self._reader.eof()
        except HttpError as error:
            self._error = self._error or error
        self._stir()
        return not self._secure  # a plain connection stays half open until it is answered

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._error = self._error or HttpError("IncompleteBody")
        self._context.closed(self)
        self._stir()

    # --- what the server calls ---

    def expire(self, now: float) -> None:
        """The present wait has lasted too long."""
        if self._writing_paused:
            self._expire_write(now)
            return
        self.deadline = math.inf
        if self._body_ended and self._reader.idle:
            self.close_idle()
        else:
            self._error = self._error or HttpError("RequestTimeout")
            self._stir()

    def close_idle(self) -> None:
        """Close if no request has begun to arrive: at the end of keep-alive, and when draining."""
        if not self._busy and self._reader.idle:
            self._eof = True
            self._stir()

    # --- the body as the application sees it ---

    async def read_body(self) -> bytes:
        """The next piece of the present request's body, `b""` at its end. Raises: HttpError."""
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._buffered -= len(piece)
                if self._reading_paused and self._buffered <= self._context.limits.body_buffer_low:
                    self._resume_reading()
                return piece
            if self._error is not None:
                raise self._error
            if self._body_ended:
                return b""
            self.deadline = self._loop.time() + self._context.limits.body_stall_timeout_s
            await self._wait()
            self.deadline = math.inf

    def allow_body(self) -> None:
        """Tell a waiting client to send its body, unless it did already."""
        if not (self._body_bytes or self._body_ended or self._lost):
            self._transport.write(CONTINUE)

    # --- turns ---

    def _stir(self) -> None:
        """Something happened: wake the turn that waits for it, or begin one."""
        if self._turning:
            self._wake()
        else:
            self._proceed()

    def _proceed(self) -> None:
        """Answer what has arrived, by hand as long as nothing has to be waited for."""
        while not (self._over or self._lost):
            if self._head is None and self._error is None:
                if self._eof or (self._context.draining and self._reader.idle):
                    self._end()
                return
            self.deadline = math.inf
            self._turning = True
            turn = self._turn()
            try:
                waited = turn.send(None)
            except StopIteration:
                continue
            Driven(self._loop, turn, self._proceed).wait(waited)
            return

    async def _turn(self) -> None:
        """Answer a request, or an error in its place; leave the connection ready or closed."""
        keep = False
        head = self._head
        try:
            keep = await (self._refuse_broken() if head is None else self._exchange(head))
            if keep:
                self._begin_next()
            else:
                self._busy = False
                await self._linger()
        except ConnectionCutError:
            keep = False
            self._transport.abort()
        finally:
            self._busy = False
            self._turning = False
            if not keep:
                self._end()

    def _end(self) -> None:
        self._over = True
        if self._error is not None:
            self._error.__traceback__ = None  # its frames hold what a body had gathered
        self._transport.close()

    def _begin_next(self) -> None:
        self._head = None
        self._busy = False
        if self._pieces:
            self._pieces.clear()
        self._discarding = False
        reader = self._reader
        self._head_begun = reader.unread_size > 0
        limits = self._context.limits
        self.deadline = self._loop.time() + (
            limits.header_timeout_s if self._head_begun else limits.keep_alive_timeout_s
        )
        self._buffered = 0
        try:
            events = reader.next_request()
        except HttpError as error:
            self._error = error
            return
        if self._reading_paused:
            self._buffered = reader.unread_size
            if self._buffered <= PIPELINED_BYTES_MAX:
                self._resume_reading()
        if events:
            self._take(events)

    async def _exchange(self, head: Head) -> bool:
        """Answer one request; True when the connection can take another."""
        self._busy = True
        context = self._context
        started = time.perf_counter()
        request = Request(
            head.method,
            head.target,
            head.headers,
            _EMPTY_BODY if head.content_length == 0 else _Body(self, head),
            context.next_request_id(),
            self._secure,
            self._peer,
            head.repeated,
        )
        try:
            if self._refused:
                raise S3Error("SlowDown")
            response = await context.application(request)
        except S3Error as error:
            response = context.error_response(request, error)
        except Exception:  # noqa: BLE001 - one request must not end the others
            response = context.fault(request)
        try:
            try:
                keep = self._respond(head, request, response)
            except InvariantError:  # its headers cannot be sent, and nothing was
                response = context.fault(request)
                keep = self._respond(head, request, response)
            if not isinstance(response.body, bytes):
                keep = await self._stream(head, request, response) and keep
            if self._writing_paused:
                await self._drain()
        finally:
            taken_s = time.perf_counter() - started
            context.finished(request, response.status, self._body_bytes, self._sent_bytes, taken_s)
        return keep and (self._body_ended or await self._discard_rest())

    async def _refuse_broken(self) -> bool:
        """Answer what is not a request; the connection cannot go on."""
        error = self._error
        invariant(error is not None, "broken without an error")
        context = self._context
        request_id = context.next_request_id()
        request = Request("-", b"-", {}, _EMPTY_BODY, request_id, self._secure, self._peer)
        response = context.error_response(request, cast("HttpError", error))
        self._respond(_NO_HEAD, request, response)
        if self._writing_paused:
            await self._drain()
        context.finished(request, response.status, 0, self._sent_bytes, 0.0)
        return False

    # --- writing ---

    def _respond(self, head: Head, request: Request, response: Response) -> bool:
        """Write the response's head, and its body if it is there whole; True when the connection
        may be kept.
        """
        self._sent_bytes = 0
        if self._lost:
            raise ConnectionCutError
        keep = (
            head.keep_alive
            and not response.close
            and not self._refused
            and not self._context.draining
            and self._error is None
            and (self._body_ended or _rest_is_small(head, self._body_bytes))
        )
        length, status = response.length, response.status
        body = response.body if isinstance(response.body, bytes) else None
        bare = head.method == "HEAD" or status == 204 or status == 304
        if body is not None and (length is None or head.method != "HEAD"):
            length = len(body)
        written = self._context.heads.head(
            status,
            response.headers,
            length=length,
            keep_alive=keep,
            version=head.version,
            request_id=request.request_id,
        )
        if bare or body is None:
            self._write(written)
            return keep
        self._sent_bytes = len(body)
        if len(body) <= JOIN_BYTES_MAX:
            self._write(written + body)
        else:
            self._write(written)
            self._write(body)
        return keep

    async def _stream(self, head: Head, request: Request, response: Response) -> bool:
        """Write a body in pieces; True when its end shows without closing the connection."""
        pieces, length = cast("Pieces", response.body), response.length
        if head.method == "HEAD" or response.status in (204, 304):
            await _close_pieces(pieces)
            return True
        chunked = length is None and head.version == (1, 1)
        try:
            async for piece in pieces:
                if not len(piece):
                    continue
                self._sent_bytes += len(piece)
                if length is not None and self._sent_bytes > length:
                    break
                if isinstance(piece, FileRange):
                    invariant(not chunked and not self._secure, "files are sent as they lie")
                    await self._send_file(piece)
                    continue
                self._end_files()
                framed = (chunk_head(len(piece)), piece, b"\r\n") if chunked else (piece,)
                for part in framed:
                    self._write(part)
                if self._writing_paused:
                    await self._drain()
        except ConnectionCutError:
            await _close_pieces(pieces)
            raise
        except Exception as error:
            # The head is out: the only way left to tell the client is to cut the connection.
            self._counters.application_faults += 1
            fault("response_failed", id=request.request_id, sent=self._sent_bytes, **request.note)
            await _close_pieces(pieces)
            raise ConnectionCutError from error
        finally:
            self._end_files()
        if length is not None and self._sent_bytes != length:
            await _close_pieces(pieces)
            event("response_length_wrong", id=request.request_id, promised=length)
            raise ConnectionCutError
        if chunked:
            self._write(LAST_CHUNK)
        return chunked or length is not None

    # --- the rest of a body that the application did not read ---

    async def _discard_rest(self) -> bool:
        """Throw away what is left of the body; True when it ended within bounds."""
        self._pieces.clear()
        self._discarding = True
        self._buffered = 0
        if self._reading_paused:
            self._resume_reading()
        until = self._body_bytes + DISCARD_BYTES_MAX
        while not self._body_ended:
            if self._error is not None or self._body_bytes > until:
                return False
            self.deadline = self._loop.time() + self._context.limits.body_stall_timeout_s
            await self._wait()
        self.deadline = math.inf
        return True

    async def _linger(self) -> None:
        """Close so that the answer arrives: end our side, then read on until the client ends."""
        if self._lost or self._transport.is_closing():
            return
        self._discarding = True
        self._pieces.clear()
        if self._reading_paused:
            self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._body_ended and self._error is None:
            return
        self._error = self._error or HttpError("IncompleteBody")  # from here all bytes are dropped
        until = self._loop.time() + self._context.limits.linger_timeout_s
        self.deadline = until
        while not (self._eof or self._lost) and self._loop.time() < until:
            await self._wait()

    # --- small parts ---

    def _take(self, events: list[Event]) -> None:
        for item in events:
            if type(item) is Data:
                self._body_bytes += len(item.data)
                if self._discarding:
                    continue
                self._pieces.append(item.data)
                self._buffered += len(item.data)
                if self._buffered > self._context.limits.body_buffer_high:
                    self._pause_reading()
            elif type(item) is End:
                self._body_ended = True
            elif type(item) is Head:
                self._head = item
                self._body_bytes = 0
                self._body_ended = False


class _Body:
    """The body of one request; of no use after its response."""

    __slots__ = ("_asked", "_connection", "_expected", "length")

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._expected = head.expect_continue
        self._asked = False
        self.length = head.content_length

    def read(self) -> Coroutine[object, None, bytes]:
        if not self._asked:
            self._asked = True
            if self._expected:
                self._connection.allow_body()
        return self._connection.read_body()


def _rest_is_small(head: Head, received: int) -> bool:
    """Whether a body of which that many bytes came may be read on just to get rid of it."""
    if head.expect_continue and not received:
        # Whether a client that was refused its body sends it all the same cannot be known.
        return False
    length = head.content_length
    return length is None or length - received <= DISCARD_BYTES_MAX


async def _close_pieces(pieces: Pieces) -> None:
    """End a generator that will not be read to its end, so that it lets go of what it holds."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
