"""One HTTP connection: bytes from the transport to the application and back.

Theory of operation. The transport's callbacks only note what happened (a head, pieces of body, the
end, an error, room to write) and wake the connection's single task; the task goes through requests
one after the other: wait for a head, run the application, write the response, get rid of what is
left of the body. There is one waiter at a time, since only that task waits.

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
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

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
from .duplex import ConnectionCutError, Duplex
from .http import Request, Response
from .logging import event, fault

if TYPE_CHECKING:
    from .server import HttpServer

JOIN_BYTES_MAX = 32 * 1024
"""A body up to this size is copied behind its head: one buffer is cheaper than two."""


class EmptyBody:
    """The body of a request that has none."""

    length: int | None = 0

    async def read(self) -> bytes:
        return b""


_EMPTY_BODY = EmptyBody()


class Connection(Duplex):
    """Serves the requests of one client connection with the server's application."""

    def __init__(self, server: HttpServer, *, secure: bool, refused: bool) -> None:
        super().__init__(server.loop, server.counters, server.limits.body_stall_timeout_s)
        self._server = server
        self._secure = secure
        self._refused = refused
        self._reader = RequestReader()
        self._peer = ""
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        """A request's head has arrived and its response is not finished."""
        self._head: Head | None = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._body_bytes = 0
        self._body_ended = True
        self._discarding = False
        self._error: HttpError | None = None
        self._eof = False
        self._sent_bytes = 0

    # --- transport callbacks: note and wake ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        self.deadline = self._loop.time() + self._server.limits.header_timeout_s
        self._server.opened(self)
        self.task = self._loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        self._server.counters.bytes_in += len(data)
        if self._error is not None:
            return
        reader = self._reader
        if reader.ended and not self._reading_paused:
            # Bytes of a pipelined request: kept unparsed by the reader, within bounds.
            self._buffered += len(data)
            if self._buffered > PIPELINED_BYTES_MAX:
                self._pause_reading()
        elif self._body_ended and reader.idle:
            self.deadline = self._loop.time() + self._server.limits.header_timeout_s
        try:
            events = reader.feed(data)
        except HttpError as error:
            self._error = error
            self._wake()
            return
        if events:
            self._take(events)

    def eof_received(self) -> bool:
        self._eof = True
        try:
            self._reader.eof()
        except HttpError as error:
            self._error = self._error or error
        self._wake()
        return not self._secure  # a plain connection stays half open until it is answered

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._error = self._error or HttpError("IncompleteBody")
        self._server.closed(self)
        self._wake()

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
            self._wake()

    def close_idle(self) -> None:
        """Close if no request has begun to arrive: at the end of keep-alive, and when draining."""
        if not self.busy and self._reader.idle:
            self._eof = True
            self._wake()

    # --- the body as the application sees it ---

    async def read_body(self) -> bytes:
        """The next piece of the present request's body, `b""` at its end. Raises: HttpError."""
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._buffered -= len(piece)
                if self._reading_paused and self._buffered <= self._server.limits.body_buffer_low:
                    self._resume_reading()
                return piece
            if self._error is not None:
                raise self._error
            if self._body_ended:
                return b""
            self.deadline = self._loop.time() + self._server.limits.body_stall_timeout_s
            await self._wait()
            self.deadline = math.inf

    def allow_body(self) -> None:
        """Tell a waiting client to send its body, unless it did already."""
        if not (self._body_bytes or self._body_ended or self._lost):
            self._transport.write(CONTINUE)

    # --- the task ---

    async def _run(self) -> None:
        try:
            while await self._next_head():
                head = self._head
                if head is None:
                    await self._refuse_broken()
                    break
                self.busy = True
                keep = await self._exchange(head)
                self.busy = False
                if not keep:
                    await self._linger()
                    break
                self._begin_next()
        except ConnectionCutError:
            self._transport.abort()
        finally:
            self.busy = False
            self._transport.close()

    async def _next_head(self) -> bool:
        """Wait for a head or an error; False when the connection ends here."""
        while self._head is None and self._error is None:
            if self._eof or (self._server.draining and self._reader.idle):
                return False
            await self._wait()
        self.deadline = math.inf
        return not self._lost

    def _begin_next(self) -> None:
        self._head = None
        self._discarding = False
        limits = self._server.limits
        events: list[Event] = []
        try:
            events = self._reader.next_request()
        except HttpError as error:
            self._error = error
        idle = self._reader.idle
        self.deadline = self._loop.time() + (
            limits.keep_alive_timeout_s if idle else limits.header_timeout_s
        )
        self._buffered = 0
        if self._reading_paused:
            self._buffered = self._reader.unread_size
            if self._buffered <= PIPELINED_BYTES_MAX:
                self._resume_reading()
        self._take(events)

    async def _exchange(self, head: Head) -> bool:
        """Answer one request; True when the connection can take another."""
        server = self._server
        started = time.perf_counter()
        request = Request(
            method=head.method,
            target=head.target,
            headers=head.headers,
            body=_EMPTY_BODY if head.content_length == 0 else _Body(self, head),
            request_id=server.next_request_id(),
            secure=self._secure,
            peer=self._peer,
        )
        self._sent_bytes = 0
        response = await self._answer(request)
        keep = False
        try:
            try:
                keep = await self._respond(head, request, response)
            except InvariantError:  # its headers cannot be sent, and nothing was
                response = self._fault(request)
                keep = await self._respond(head, request, response)
        finally:
            server.finished(
                request,
                response.status,
                bytes_in=self._body_bytes,
                bytes_out=self._sent_bytes,
                seconds=time.perf_counter() - started,
            )
        return keep and await self._discard_rest()

    async def _answer(self, request: Request) -> Response:
        try:
            if self._refused:
                raise S3Error("SlowDown")
            return await self._server.application(request)
        except S3Error as error:
            return self._server.error_response(request, error)
        except Exception:  # noqa: BLE001 - one request must not end the others
            return self._fault(request)

    def _fault(self, request: Request) -> Response:
        """Count and log the exception being handled; the client is told InternalError."""
        self._server.counters.application_faults += 1
        fault("request_failed", id=request.request_id, method=request.method, **request.note)
        return self._server.error_response(request, S3Error("InternalError"))

    async def _refuse_broken(self) -> None:
        """Answer what is not a request, and close."""
        error = self._error
        invariant(error is not None, "broken without an error")
        request = Request(
            "-", b"-", [], _EMPTY_BODY, self._server.next_request_id(), self._secure, self._peer
        )
        response = self._server.error_response(request, cast("HttpError", error))
        self._sent_bytes = 0
        head = Head("-", b"-", [], (1, 1), False, 0, False)
        await self._respond(head, request, response)
        self._server.finished(
            request, response.status, bytes_in=0, bytes_out=self._sent_bytes, seconds=0.0
        )
        await self._linger()

    # --- writing ---

    async def _respond(self, head: Head, request: Request, response: Response) -> bool:
        """Write the response; True when the connection may be kept."""
        if self._lost:
            raise ConnectionCutError
        keep = (
            head.keep_alive
            and not response.close
            and not self._refused
            and not self._server.draining
            and self._error is None
            and self._rest_is_small(head)
        )
        body = response.body
        length = response.length
        if isinstance(body, bytes) and (length is None or head.method != "HEAD"):
            length = len(body)
        written = self._server.heads.head(
            response.status,
            [*response.headers, *self._server.identity_headers(request.request_id)],
            length=length,
            keep_alive=keep,
            version=head.version,
        )
        if head.method == "HEAD" or response.status in (204, 304):
            self._write(written)
            if not isinstance(body, bytes):
                await _close_pieces(body)
        elif isinstance(body, bytes):
            self._sent_bytes = len(body)
            if len(body) <= JOIN_BYTES_MAX:
                self._write(written + body)
            else:
                self._write(written)
                self._write(body)
        else:
            self._write(written)
            chunked = length is None and head.version == (1, 1)
            await self._stream(request, body, length, chunked=chunked)
            keep = keep and (chunked or length is not None)
        if self._writing_paused:
            await self._drain()
        return keep

    async def _stream(
        self,
        request: Request,
        pieces: AsyncIterator[bytes | memoryview],
        length: int | None,
        *,
        chunked: bool,
    ) -> None:
        try:
            async for piece in pieces:
                if not len(piece):
                    continue
                self._sent_bytes += len(piece)
                if length is not None and self._sent_bytes > length:
                    break
                if chunked:
                    self._write(chunk_head(len(piece)))
                    self._write(piece)
                    self._write(b"\r\n")
                else:
                    self._write(piece)
                if self._writing_paused:
                    await self._drain()
        except ConnectionCutError:
            await _close_pieces(pieces)
            raise
        except Exception as error:
            # The head is out: the only way left to tell the client is to cut the connection.
            self._server.counters.application_faults += 1
            fault("response_failed", id=request.request_id, sent=self._sent_bytes, **request.note)
            raise ConnectionCutError from error
        if length is not None and self._sent_bytes != length:
            await _close_pieces(pieces)
            event("response_length_wrong", id=request.request_id, promised=length)
            raise ConnectionCutError
        if chunked:
            self._write(LAST_CHUNK)

    # --- the rest of a body that the application did not read ---

    def _rest_is_small(self, head: Head) -> bool:
        if self._body_ended:
            return True
        if head.expect_continue and not self._body_bytes:
            # Whether a client that was refused its body sends it all the same cannot be known.
            return False
        length = head.content_length
        return length is None or length - self._body_bytes <= DISCARD_BYTES_MAX

    async def _discard_rest(self) -> bool:
        """Throw away what is left of the body; True when it ended within bounds."""
        self._pieces.clear()
        if self._body_ended:
            return True
        self._discarding = True
        self._buffered = 0
        if self._reading_paused:
            self._resume_reading()
        until = self._body_bytes + DISCARD_BYTES_MAX
        while not self._body_ended:
            if self._error is not None or self._body_bytes > until:
                return False
            self.deadline = self._loop.time() + self._server.limits.body_stall_timeout_s
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
        until = self._loop.time() + self._server.limits.linger_timeout_s
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
                if self._buffered > self._server.limits.body_buffer_high:
                    self._pause_reading()
            elif type(item) is End:
                self._body_ended = True
            else:
                self._head = cast("Head", item)
                self._body_bytes = 0
                self._body_ended = False
        self._wake()


class _Body:
    """The body of one request; of no use after its response."""

    __slots__ = ("_asked", "_connection", "_expected", "length")

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._expected = head.expect_continue
        self._asked = False
        self.length = head.content_length

    async def read(self) -> bytes:
        if not self._asked:
            self._asked = True
            if self._expected:
                self._connection.allow_body()
        return await self._connection.read_body()


async def _close_pieces(pieces: AsyncIterator[bytes | memoryview]) -> None:
    """End a generator that will not be read to its end, so that it lets go of what it holds."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
