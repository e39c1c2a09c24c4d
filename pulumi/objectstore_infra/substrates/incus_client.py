"""A small client of Incus' REST API over its Unix socket.

Owns HTTP, operations and ETags; knows nothing of object stores. One connection per request: the
socket is local and a connection costs microseconds, while a kept one would have to be shared
between threads. Mutations that answer 202 are awaited, their failure raises Incus' own text.
Source: Incus 6.0 REST API documentation (`/1.0`, `/1.0/operations/{id}/wait`).
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from objectstore_infra.errors import (
    ChangedMeanwhileError,
    ConflictError,
    NotFoundError,
    SubstrateError,
    SubstrateUnreachableError,
)

DEFAULT_SOCKET = "/var/lib/incus/unix.socket"
OPERATION_TIMEOUT_S = 300
REQUEST_TIMEOUT_S = OPERATION_TIMEOUT_S + 30

Json = Any  # what json.loads returns; each caller picks the fields it knows


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("incus", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Answer:
    """The metadata of a reply and the ETag to guard a later update with."""

    metadata: Json
    etag: str


class IncusClient:
    """Requests to one Incus daemon; safe to use from several threads."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET) -> None:
        self.socket_path = socket_path

    def get(self, path: str, **query: str) -> Answer:
        """Read one document. Raises NotFoundError."""
        return self._request("GET", path, query=query)

    def exists(self, path: str) -> bool:
        """Say whether the document is there."""
        try:
            self.get(path)
        except NotFoundError:
            return False
        return True

    def post(self, path: str, body: Json, **query: str) -> Answer:
        """Create; returns when the operation has ended, with the operation's metadata."""
        return self._request("POST", path, body=body, query=query)

    def put(self, path: str, body: Json, *, etag: str = "") -> Answer:
        """Replace; with an ETag only if nobody changed it meanwhile (ChangedMeanwhileError)."""
        return self._request("PUT", path, body=body, headers={"If-Match": etag} if etag else {})

    def patch(self, path: str, body: Json, *, etag: str = "") -> Answer:
        """Change the keys named; guarded like `put`."""
        return self._request("PATCH", path, body=body, headers={"If-Match": etag} if etag else {})

    def delete(self, path: str) -> Answer:
        """Delete; raises NotFoundError."""
        return self._request("DELETE", path)

    def upload(
        self,
        path: str,
        body: bytes | Iterator[bytes],
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST raw bytes (an image, a file of an instance); an iterator needs Content-Length."""
        return self._request("POST", path, raw=body, query=query, headers=headers)

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        raw: bytes | Iterator[bytes] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        payload = json.dumps(body).encode() if body is not None else raw
        sent = {"Content-Type": "application/json" if raw is None else "application/octet-stream"}
        sent.update(headers or {})
        target = f"/1.0{quote(path, safe='/')}" + (f"?{urlencode(query)}" if query else "")
        status, etag, reply = self._exchange(method, target, payload, sent)
        if reply.get("type") == "error":
            raise self._error(
                f"{method} {path}", reply.get("error_code", status), reply.get("error", "")
            )
        if reply.get("type") == "async":
            return Answer(self._wait(f"{method} {path}", reply["metadata"]["id"]), etag)
        return Answer(reply.get("metadata"), etag)

    def _exchange(
        self,
        method: str,
        target: str,
        payload: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, str, dict[str, Json]]:
        connection = _UnixConnection(self.socket_path, REQUEST_TIMEOUT_S)
        try:
            connection.request(method, target, body=payload, headers=dict(headers))
            response = connection.getresponse()
            text = response.read()
            etag = response.getheader("ETag", "")
        except (OSError, http.client.HTTPException) as cause:
            raise SubstrateUnreachableError(
                f"Incus does not answer at {self.socket_path} ({cause or type(cause).__name__})",
                hint="install and start it as root with `make host` "
                "(or: systemctl start incus), then run the command again",
            ) from cause
        finally:
            connection.close()
        try:
            document = json.loads(text)
        except ValueError as cause:
            raise SubstrateError(
                f"Incus answered {method} {target} with something that is not JSON: {text[:200]!r}"
            ) from cause
        return response.status, etag, document

    def _wait(self, what: str, operation: str) -> Json:
        target = f"/1.0/operations/{operation}/wait?timeout={OPERATION_TIMEOUT_S}"
        status, _, reply = self._exchange("GET", target, None, {})
        if reply.get("type") == "error":
            raise self._error(what, reply.get("error_code", status), reply.get("error", ""))
        ended = reply["metadata"]
        if ended["status_code"] == http.client.OK:
            return ended
        if ended["status_code"] < http.client.OK:
            raise SubstrateError(f"Incus: {what} has not ended after {OPERATION_TIMEOUT_S} s")
        raise self._error(what, ended["status_code"], ended.get("err", ended["status"]))

    @staticmethod
    def _error(what: str, code: int, text: str) -> SubstrateError:
        message = f"Incus refused {what}: {text}"
        lowered = text.lower()
        if code == http.client.NOT_FOUND or lowered.endswith("not found"):
            return NotFoundError(message)
        if code == http.client.PRECONDITION_FAILED:
            return ChangedMeanwhileError(message)
        taken = "already exists" in lowered or "already in use" in lowered
        if code == http.client.CONFLICT or taken:
            return ConflictError(message)
        return SubstrateError(message)
