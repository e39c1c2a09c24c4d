"""The HTTP values that a server hands to its application and gets back; no sockets here.

The application is one coroutine: `async def handle(request: Request) -> Response`. The server owns
framing, limits, timeouts, keep-alive and `Expect: 100-continue` (sent when the application first
asks for the body). If the application answers without reading the whole body, the server drains a
little of it or closes the connection; the application need not care.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import msgspec

from ..core.errors import invariant

SYSTEM_OPERATION = "System"
"""The operation noted for health and metrics requests."""


class BodyReader(Protocol):
    """The request's body behind Content-Length or chunked framing (aws-chunked is the application's
    business).
    """

    length: int | None
    """Content-Length, or None when the body is chunked."""

    async def read(self) -> bytes:
        """Return the next piece, `b""` at the end.

        Raises: protocol.http1.HttpError, an S3 error to answer with: IncompleteBody (the connection
        ended), RequestTimeout (nothing came for too long), BadRequest (broken framing).
        """


class Request(msgspec.Struct):
    """`target` is the request target byte for byte as received; `headers` have lower-cased names,
    values stripped of outer blanks, as latin-1 bytes, the first value where a name is repeated;
    `repeated` then has all fields in order. `secure` says whether it came over TLS; `peer` is the
    client's address.
    """

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    body: BodyReader
    request_id: str
    secure: bool
    peer: str
    repeated: Sequence[tuple[bytes, bytes]] = ()
    note: dict[str, str] = {}
    """What the application adds to this request's line in the access log (operation, bucket, user,
    error code).
    """

    def fields(self) -> Iterable[tuple[bytes, bytes]]:
        """Every header field, repeated ones as often as they came."""
        return self.repeated or self.headers.items()


class ByteSource(Protocol):
    """Bytes that lie in a file and are read, and verified, right before they are sent."""

    def read(self, start: int, length: int, *, wait: bool = False) -> memoryview | None:
        """These bytes, at most SEND_WINDOW_BYTES_MAX; good until the thread's next call for any
        source. None when the disk would have to be waited for, unless told to `wait`.
        """

    async def fetch(self, start: int, length: int) -> None:
        """Have these bytes read from the disk, so that `read` need not wait."""


async def read_bytes(source: ByteSource, start: int, length: int) -> memoryview:
    """These bytes, wherever they are; good until anybody waits. Raises: what the source raises."""
    data = source.read(start, length)
    if data is None:
        await source.fetch(start, length)
        data = source.read(start, length, wait=True)
    invariant(data is not None, "who waits gets bytes")
    return cast("memoryview", data)


@dataclass(slots=True)
class FileRange:
    """A piece of a body that lies in a file: it is sent without being held in memory. Only
    connections without TLS can do that. The source is good until the next piece is asked for.
    """

    source: ByteSource
    start: int
    length: int

    def __len__(self) -> int:
        return self.length


Pieces = AsyncIterator[bytes | memoryview | FileRange]


@dataclass(slots=True)
class Response:
    """`body` is the whole body, or pieces whose sizes add up to `length` (None: unknown, sent
    chunked).

    For HEAD, give the `length` a GET would have and an empty `body`. A piece iterator that raises
    cuts the connection.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | Pieces = b""
    length: int | None = None
    close: bool = False


Application = Callable[[Request], Awaitable[Response]]
