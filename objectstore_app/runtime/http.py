"""The HTTP values that a server hands to its application and gets back; no sockets here.

The application is one coroutine: `async def handle(request: Request) -> Response`. The server owns
framing, limits, timeouts, keep-alive and `Expect: 100-continue` (sent when the application first
asks for the body). If the application answers without reading the whole body, the server drains a
little of it or closes the connection; the application need not care.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

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


@dataclass(slots=True)
class Request:
    """`target` is the request target byte for byte as received; `headers` have lower-cased names,
    in order, values stripped of outer blanks, as latin-1 bytes. `secure` says whether it came over
    TLS; `peer` is the client's address.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: BodyReader
    request_id: str
    secure: bool
    peer: str
    note: dict[str, str] = field(default_factory=dict)
    """What the application adds to this request's line in the access log (operation, bucket, user,
    error code).
    """

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-cased name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class Response:
    """`body` is the whole body, or pieces whose sizes add up to `length` (None: unknown, sent
    chunked).

    For HEAD, give the `length` a GET would have and an empty `body`. A piece iterator that raises
    cuts the connection.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes | memoryview] = b""
    length: int | None = None
    close: bool = False


Application = Callable[[Request], Awaitable[Response]]
