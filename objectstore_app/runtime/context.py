"""What the connections of one server share: the application, limits, counters, identity, the log.

The server makes one and hands it to each connection, so that connections know nothing of sockets
that listen and the server nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass
from typing import Protocol

from ..core import limits as bounds
from ..protocol.errors import S3Error
from ..protocol.http1 import HttpError, ResponseHeads
from .access_log import LOGGED_PATH_BYTES_MAX, AccessLine, AccessLog
from .http import SYSTEM_OPERATION, Application, Request, Response
from .logging import fault
from .metrics import Counters

SWEEP_INTERVAL_S = 0.5
_MASK_64 = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15  # odd, so that 2^64 request ids differ


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of the server; the defaults are those of `core.limits`, tests use smaller ones."""

    header_timeout_s: float = bounds.HEADER_TIMEOUT_S
    keep_alive_timeout_s: float = bounds.KEEP_ALIVE_TIMEOUT_S
    body_stall_timeout_s: float = bounds.BODY_STALL_TIMEOUT_S
    linger_timeout_s: float = bounds.LINGER_TIMEOUT_S
    connections_max: int = bounds.CONNECTIONS_MAX
    body_buffer_high: int = bounds.BODY_BUFFER_BYTES_MAX
    body_buffer_low: int = bounds.BODY_BUFFER_BYTES_MAX // 4
    sweep_interval_s: float = SWEEP_INTERVAL_S


class Connected(Protocol):
    """A connection as the server sees it. `deadline` is until when its present wait may last."""

    deadline: float

    def expire(self, now: float) -> None:
        """The present wait has lasted too long."""

    def close_idle(self) -> None:
        """Close if no request has begun to arrive."""

    def abort(self) -> None:
        """Cut the connection at once."""


class ServerContext:
    """One per server, used on its loop only."""

    def __init__(
        self,
        application: Application,
        counters: Counters,
        limits: ServerLimits,
        access_log: AccessLog | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.application = application
        self.counters = counters
        self.limits = limits
        self.draining = False
        self.connections: set[Connected] = set()
        self.gone: asyncio.Future[None] | None = None
        """Resolved when the last connection is lost, once somebody waits for that."""
        self._access_log = access_log
        self._next_id = int.from_bytes(os.urandom(8), "big")
        self._host_id = base64.b64encode(os.urandom(24)).decode()
        self.heads = ResponseHeads(host_id=self._host_id)

    def opened(self, connection: Connected) -> None:
        self.connections.add(connection)
        self.counters.connections = len(self.connections)

    def closed(self, connection: Connected) -> None:
        self.connections.discard(connection)
        self.counters.connections = len(self.connections)
        if not self.connections and self.gone is not None and not self.gone.done():
            self.gone.set_result(None)

    def next_request_id(self) -> str:
        """Sixteen hexadecimal digits, unique in this process and most likely everywhere."""
        self._next_id = (self._next_id + _STRIDE) & _MASK_64
        return f"{self._next_id:016X}"

    def error_response(self, request: Request, error: S3Error) -> Response:
        """The answer to a fault that the application did not answer itself."""
        request.note.setdefault("code", error.code)
        path = request.target.partition(b"?")[0]
        body = error.to_xml(path, request.request_id, self._host_id)
        headers = [("Content-Type", "application/xml"), *error.headers]
        return Response(error.status, headers, body, close=isinstance(error, HttpError))

    def fault(self, request: Request) -> Response:
        """Count and log the exception being handled; the client is told InternalError."""
        self.counters.application_faults += 1
        fault("request_failed", id=request.request_id, method=request.method, **request.note)
        return self.error_response(request, S3Error("InternalError"))

    def finished(
        self, request: Request, status: int, bytes_in: int, bytes_out: int, seconds: float
    ) -> None:
        """Count and log one request; the log is spared probes that went well."""
        note = request.note
        operation = note.get("operation", "Other")
        self.counters.count(operation, status, seconds)
        log = self._access_log
        if log is not None and (operation != SYSTEM_OPERATION or status >= 400):
            path = request.target.partition(b"?")[0][:LOGGED_PATH_BYTES_MAX]
            log.request(
                AccessLine(
                    time.time(),
                    request.request_id,
                    request.peer,
                    request.method,
                    path,
                    status,
                    bytes_in,
                    bytes_out,
                    seconds,
                    note,
                )
            )
