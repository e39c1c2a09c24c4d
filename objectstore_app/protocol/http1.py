"""HTTP/1.1 without I/O: bytes in, events out; and the bytes of a response head.

Theory of operation. `RequestReader` reads one request at a time. `feed(data)` returns the events
that the bytes complete, at most up to `End`; what follows the end of a request stays inside as
unread bytes until `next_request()` is called, so that a pipelined request is never looked at before
the one before it is answered. The head is parsed by llhttp (httptools) and by nothing else; it gets
exactly the bytes up to the first empty line. Bodies are framed here, since llhttp cannot say where
it stopped: by Content-Length (slices, no copy for whole pieces) or chunked. Whatever is ambiguous
is refused, never guessed; after an `HttpError` the reader is dead and the connection must close.

States: HEAD → LENGTH | CHUNK_SIZE → (CHUNK_DATA → CHUNK_END → CHUNK_SIZE)* → TRAILER → ENDED.
Source: RFC 9112; RFC 9110 for field values.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus

import httptools
import msgspec

from ..core.errors import InvariantError, invariant
from ..core.limits import HEADER_BYTES_MAX, HEADER_COUNT_MAX
from .dates import http_date
from .errors import S3Error

TARGET_BYTES_MAX = 8 * 1024
CHUNK_LINE_BYTES_MAX = 1024
LEADING_BLANK_LINES_MAX = 8

invariant(TARGET_BYTES_MAX < HEADER_BYTES_MAX, "a target fits its head")


class HttpError(S3Error):
    """The request broke HTTP: answer with this error and close the connection."""


class Head(msgspec.Struct):
    """A request's head. Header names are lower-cased, values stripped of outer blanks.

    `headers` holds the first value of each name; where a name occurs more than once, `repeated` has
    all fields in order. `content_length` is None for a chunked body and 0 where the request has
    none.
    """

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    version: tuple[int, int]
    keep_alive: bool
    content_length: int | None
    expect_continue: bool
    repeated: Sequence[tuple[bytes, bytes]] = ()

    @property
    def chunked(self) -> bool:
        return self.content_length is None


class Data(msgspec.Struct, gc=False):
    """A piece of the body (framing removed), never empty."""

    data: bytes


class End(msgspec.Struct, frozen=True, gc=False):
    """The request is complete; call `next_request()` when its response is finished."""


Event = Head | Data | End

_END = End()

# The states, in the order of the reader's table of steps.
(
    _HEAD,
    _LENGTH,
    _CHUNK_SIZE,
    _CHUNK_DATA,
    _CHUNK_END,
    _TRAILER,
    _ENDED,
    _BROKEN,
) = range(8)


class RequestReader:
    """Reads the requests of one connection, one after the other.

    `feed` raises HttpError; the events it would have returned with it are lost, as they are of no
    use.
    """

    def __init__(
        self,
        *,
        header_bytes_max: int = HEADER_BYTES_MAX,
        header_count_max: int = HEADER_COUNT_MAX,
        target_bytes_max: int = TARGET_BYTES_MAX,
    ) -> None:
        self._header_bytes_max = header_bytes_max
        self._header_count_max = header_count_max
        self._target_bytes_max = target_bytes_max
        self._state = _HEAD
        self._buffer = b""
        self._pos = 0
        self._left = 0
        self._scanned = 0
        self._trailer_bytes = 0
        self._sink = _Sink()

    @property
    def idle(self) -> bool:
        """No byte of the next request has arrived (keep-alive wait, not a slow head)."""
        return self._state == _HEAD and self._pos == len(self._buffer)

    @property
    def ended(self) -> bool:
        """The current request is complete and `next_request` has not been called."""
        return self._state == _ENDED

    @property
    def unread(self) -> bytes:
        """Bytes received behind what the events cover."""
        return self._buffer[self._pos :]

    @property
    def unread_size(self) -> int:
        """How many those are, without copying them."""
        return len(self._buffer) - self._pos

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes from the connection and return what they complete, in order."""
        events: list[Event] = []
        waiting = len(self._buffer) - self._pos
        if self._state == _LENGTH and not waiting and 0 < len(data) <= self._left:
            # The hot path of a large upload: a whole piece of body, handed on without a copy.
            self._left -= len(data)
            events.append(Data(data))
            if self._left == 0:
                self._state = _ENDED
                events.append(_END)
            return events
        if data:
            self._buffer = self._buffer[self._pos :] + data if waiting else data
            self._pos = 0
        try:
            while self._pos < len(self._buffer) and self._STEPS[self._state](self, events):
                pass
        except HttpError:
            self._state = _BROKEN
            raise
        if self._pos == len(self._buffer):
            self._buffer, self._pos = b"", 0
        return events

    def next_request(self) -> list[Event]:
        """Begin the next request with the bytes that are already here."""
        if self._state != _ENDED:
            raise InvariantError("next request", hint="before the end of the one before it")
        self._state = _HEAD
        self._scanned = 0
        return self.feed(b"") if self._buffer else []

    def eof(self) -> None:
        """The client closed its side. Raises HttpError when that cuts a request short."""
        if self._state in (_ENDED, _BROKEN) or self.idle:
            return
        in_head = self._state == _HEAD
        self._state = _BROKEN
        if in_head:
            raise HttpError("BadRequest", "The connection closed inside the request's head.")
        raise HttpError("IncompleteBody")

    # --- steps: each consumes from the buffer and says whether another step may follow ---

    def _step_head(self, events: list[Event]) -> bool:
        if self._scanned == 0 and self._buffer[self._pos] in b"\r\n":
            self._skip_blank_lines()
            if self._buffer[self._pos : self._pos + 2] in (b"", b"\r"):
                return False
        start = self._pos
        end = self._buffer.find(b"\r\n\r\n", start + max(0, self._scanned - 3))
        if (end if end >= 0 else len(self._buffer)) - start > self._header_bytes_max:
            raise HttpError("RequestHeaderSectionTooLarge", MaxSizeAllowed=self._header_bytes_max)
        if end < 0:
            # A bare LF means an end that will never come: answer now, not at the timeout.
            if _BARE_LINE_FEED.search(self._buffer, start + max(0, self._scanned - 1)) is not None:
                raise HttpError("BadRequest", "A line of the head does not end in CRLF.")
            self._scanned = len(self._buffer) - start
            return False
        self._pos = end + 4
        head = self._parse_head(self._buffer[start : self._pos])
        events.append(head)
        if head.content_length is None:
            self._state = _CHUNK_SIZE
        elif head.content_length:
            self._state = _LENGTH
            self._left = head.content_length
        else:
            self._state = _ENDED
            events.append(_END)
        return True

    def _skip_blank_lines(self) -> None:
        # RFC 9112, 2.2: a server should ignore an empty line before the request line.
        for _ in range(LEADING_BLANK_LINES_MAX):
            if not self._buffer.startswith(b"\r\n", self._pos):
                break
            self._pos += 2
        rest = self._buffer[self._pos : self._pos + 2]
        if rest[:1] == b"\n" or (rest[:1] == b"\r" and len(rest) == 2):
            raise HttpError("BadRequest", "The request does not begin with a request line.")

    def _parse_head(self, raw: bytes) -> Head:
        sink = self._sink
        method = self._parse(raw, sink)
        headers = {name.lower(): value.strip(b" \t") for name, value in sink.fields.items()}
        repeated: tuple[tuple[bytes, bytes], ...] = ()
        # llhttp has refused folded lines: as many line ends as fields, the first and the last.
        count = raw.count(b"\n") - 2
        if len(headers) != count:
            ordered = _OrderedSink()
            self._parse(raw, ordered)
            repeated = tuple(ordered.pairs)
            count = len(repeated)
            headers = dict(reversed(repeated))
        if count > self._header_count_max:
            raise HttpError("RequestHeaderSectionTooLarge", MaxSizeAllowed=self._header_bytes_max)
        target = sink.target
        if len(target) > self._target_bytes_max:
            raise _target_too_long(self._target_bytes_max)
        if raw.startswith(b" HTTP/1.1\r\n", len(method) + 1 + len(target)):
            version = _HTTP_1_1
        else:
            version = _version(raw)
        return _head(method, target, headers, repeated, version)

    def _parse(self, raw: bytes, sink: _Sink | _OrderedSink) -> str:
        """Let llhttp read the head into the sink; return the method."""
        sink.start()
        parser = httptools.HttpRequestParser(sink)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # An offer to upgrade may be ignored; the request stands as it is.
        except httptools.HttpParserInvalidMethodError as error:
            if _METHOD.match(raw) is None:
                raise HttpError("BadRequest", "This is not an HTTP request.") from error
            raise HttpError("MethodNotAllowed", "The request's method is not known.") from error
        except httptools.HttpParserInvalidURLError as error:
            raise HttpError("InvalidURI") from error
        except httptools.HttpParserError as error:
            raise _framing_error(raw, error) from error
        if not sink.complete:
            raise HttpError("BadRequest", "The request's head is not well-formed.")
        return parser.get_method().decode("ascii")

    def _step_data(self, events: list[Event]) -> bool:
        piece = self._buffer[self._pos : self._pos + self._left]
        self._pos += len(piece)
        self._left -= len(piece)
        events.append(Data(piece))
        if self._left == 0:
            if self._state == _LENGTH:
                self._state = _ENDED
                events.append(_END)
            else:
                self._state = _CHUNK_END
        return True

    def _step_chunk_size(self, _events: list[Event]) -> bool:
        line = self._take_line()
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise HttpError("BadRequest", "The chunked body is not well-formed.")
        self._left = int(match.group(1), 16)
        self._trailer_bytes = 0
        self._state = _CHUNK_DATA if self._left else _TRAILER
        return True

    def _step_chunk_end(self, _events: list[Event]) -> bool:
        end = self._buffer[self._pos : self._pos + 2]
        if not b"\r\n".startswith(end):
            raise HttpError("BadRequest", "A chunk of the body does not end where it said.")
        if len(end) < 2:
            return False
        self._pos += 2
        self._state = _CHUNK_SIZE
        return True

    def _step_trailer(self, events: list[Event]) -> bool:
        # Trailer fields of the transfer coding are checked for form and dropped; S3's own trailers
        # travel inside aws-chunked.
        line = self._take_line()
        if line is None:
            return False
        if line:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > self._header_bytes_max:
                raise HttpError(
                    "RequestHeaderSectionTooLarge", MaxSizeAllowed=self._header_bytes_max
                )
            if _FIELD_LINE.fullmatch(line) is None:
                raise HttpError("BadRequest", "The trailer of the body is not well-formed.")
            return True
        self._state = _ENDED
        events.append(_END)
        return True

    def _take_line(self) -> bytes | None:
        start = self._pos
        end = self._buffer.find(b"\n", start, start + CHUNK_LINE_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - start >= CHUNK_LINE_BYTES_MAX:
                raise HttpError("BadRequest", "A line of the chunked body is too long.")
            return None
        if end == start or self._buffer[end - 1] != 0x0D:
            raise HttpError("BadRequest", "A line of the chunked body does not end in CRLF.")
        self._pos = end + 1
        return self._buffer[start : end - 1]

    def _step_none(self, _events: list[Event]) -> bool:
        return False

    def _step_broken(self, _events: list[Event]) -> bool:
        raise InvariantError("read request", hint="fed after an HttpError")

    _STEPS = (
        _step_head,
        _step_data,
        _step_chunk_size,
        _step_data,
        _step_chunk_end,
        _step_trailer,
        _step_none,
        _step_broken,
    )


class _Sink:
    """What httptools calls while it parses a head. Of fields with the same name one is kept. One
    serves all heads of a connection.
    """

    __slots__ = ("complete", "fields", "on_header", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: dict[bytes, bytes] = {}
        self.on_header = self.fields.__setitem__
        self.complete = False

    def start(self) -> None:
        self.target = b""
        self.fields.clear()
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_headers_complete(self) -> None:
        self.complete = True


class _OrderedSink:
    """The same for the rare head in which a name occurs more than once: all fields, in order."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.complete = False

    def start(self) -> None:
        """It reads one head only."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


_HTTP_1_1 = (1, 1)
_METHOD = re.compile(rb"[A-Za-z-]{1,32} ")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


def _version(raw: bytes) -> tuple[int, int]:
    """llhttp also reads RTSP and ICE request lines, and HTTP/0.9's without any version."""
    protocol = raw[: raw.index(b"\r\n")].rpartition(b" ")[2]
    if protocol == b"HTTP/1.1":
        return _HTTP_1_1
    if protocol == b"HTTP/1.0":
        return 1, 0
    raise HttpError("HTTPVersionNotSupported")


def _head(
    method: str,
    target: bytes,
    headers: dict[bytes, bytes],
    repeated: Sequence[tuple[bytes, bytes]],
    version: tuple[int, int],
) -> Head:
    if repeated:
        _check_repeated(repeated)
        options = [value for name, value in repeated if name == b"connection"]
        connection: bytes | None = b",".join(options) if options else None
    else:
        connection = headers.get(b"connection")
    if b"host" not in headers and version == (1, 1):
        raise _one_host()
    keep_alive = version == (1, 1)
    if connection is not None:
        given = {option.strip() for option in connection.lower().split(b",")}
        keep_alive = b"close" not in given and (keep_alive or b"keep-alive" in given)
    length: int | None = 0
    value = headers.get(b"content-length")
    if value is not None:
        # llhttp has refused repeats, signs, blanks and overflow, and its mix with chunked.
        if not value.isdigit():
            raise HttpError("BadRequest", "Content-Length is not a number.")
        length = int(value)
    value = headers.get(b"transfer-encoding")
    if value is not None:
        if value.lower() != b"chunked":
            raise _only_chunked()
        if version == (1, 0):
            raise HttpError("BadRequest", "HTTP/1.0 has no Transfer-Encoding.")
        length = None
    value = headers.get(b"expect")
    if value is not None and value.lower() != b"100-continue":
        raise HttpError("InvalidRequest", "The expectation given in Expect is not known.")
    expect = value is not None and version == (1, 1) and length != 0
    return Head(method, target, headers, version, keep_alive, length, expect, repeated)


def _check_repeated(repeated: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse heads that frame or name their request more than once."""
    times = Counter(name for name, _ in repeated)
    if times[b"host"] > 1:
        raise _one_host()
    if times[b"content-length"] > 1 or times[b"expect"] > 1:
        raise HttpError("BadRequest", "A header that frames the request occurs more than once.")
    if times[b"transfer-encoding"] > 1:
        raise _only_chunked()


def _one_host() -> HttpError:
    return HttpError("BadRequest", "A request must have exactly one Host header.")


def _only_chunked() -> HttpError:
    return HttpError(
        "NotImplemented",
        "Only the transfer coding 'chunked' is served.",
        Header="Transfer-Encoding",
    )


def _framing_error(raw: bytes, error: Exception) -> HttpError:
    """The S3 error for what llhttp refused; its own words say enough to find the fault."""
    text = str(error)
    if "ransfer-Encoding" in text and b"content-length" not in raw.lower():
        return _only_chunked()
    if "HTTP version" in text or "PRI" in text:
        return HttpError("HTTPVersionNotSupported")
    return HttpError("BadRequest", f"The request's head is not well-formed: {text}.")


def _target_too_long(limit: int) -> HttpError:
    return HttpError("InvalidURI", f"The request target is longer than {limit} bytes.")


class ResponseHeads:
    """Serialises response heads; the Date line is made once a second.

    `clock` returns seconds since the epoch. Header values with CR, LF, NUL or what is not latin-1
    are a programmer's fault and crash the request rather than split the response.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        server: str = "objectstore",
        host_id: str = "",
    ) -> None:
        self._clock = clock
        self._fixed = f"Server: {server}\r\n" + (f"x-amz-id-2: {host_id}\r\n" if host_id else "")
        self._second = -1
        self._common = ""

    def head(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        *,
        length: int | None,
        keep_alive: bool,
        version: tuple[int, int] = (1, 1),
        request_id: str = "",
    ) -> bytes:
        """Bytes up to and with the empty line.

        `length` None means chunked (HTTP/1.1 only: under 1.0 the body ends with the connection).
        Date, Server, Content-Length, Transfer-Encoding, Connection and the x-amz-ids are written
        here and must not be among `headers`.
        """
        second = int(self._clock())
        if second != self._second:
            self._common = f"Date: {http_date(second)}\r\n{self._fixed}"
            self._second = second
        given = "".join([f"{name}: {value}\r\n" for name, value in headers])
        breaks = len(headers)  # a field that holds CR or LF would make one too many
        if given.count("\r") != breaks or given.count("\n") != breaks or "\0" in given:
            raise InvariantError("write head", hint="a header holds what none may hold")
        framing = ""
        if length is None:
            if version == (1, 1):
                framing = "Transfer-Encoding: chunked\r\n"
            else:
                keep_alive = False
        elif status >= 200 and status != 204 and status != 304:
            framing = f"Content-Length: {length}\r\n"
        if not keep_alive:
            framing += "Connection: close\r\n"
        elif version == (1, 0):
            framing += "Connection: keep-alive\r\n"
        line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
        identity = f"x-amz-request-id: {request_id}\r\n" if request_id else ""
        try:
            return f"{line}{self._common}{identity}{given}{framing}\r\n".encode("latin-1")
        except UnicodeEncodeError as error:
            raise InvariantError("write head", hint="a header is not latin-1") from error


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}


def chunk_head(size: int) -> bytes:
    """What goes before a chunk of `size` bytes; CRLF goes behind it."""
    return b"%x\r\n" % size
