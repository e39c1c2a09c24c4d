"""Signed requests, made fast: a bench prepares a hundred thousand of them for one case.

Signature Version 4 in the Authorization header, as SDKs send it, with the three headers that every
request must sign. What is fixed for a second (date, scope, key) is kept; the product's own signer
is the reference that the tests hold this one against.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass, field

from objectstore_app.protocol.dates import iso_basic
from objectstore_app.protocol.sigv4_core import EMPTY_SHA256, UNSIGNED_PAYLOAD

REGION = "us-east-1"
ACCESS_KEY = "benchmarkadmin"
SECRET_KEY = "benchmark-secret-key"
SIGNED_HEADERS = "host;x-amz-content-sha256;x-amz-date"
# Servers refuse a date more than 15 minutes off; a case is prepared and run well within that.


@dataclass
class Signer:
    """Makes the heads of requests to one server. `host` is what goes into the Host header."""

    host: str
    _second: int = field(default=-1, init=False)
    _date: str = field(default="", init=False)
    _scope: str = field(default="", init=False)
    _key: bytes = field(default=b"", init=False)

    def head(
        self,
        method: str,
        target: str,
        *,
        length: int | None = None,
        payload_hash: str = EMPTY_SHA256,
        extra: str = "",
    ) -> bytes:
        """Everything up to the body. `target` is in canonical form already: path encoded, query
        parameters encoded and sorted, each with its `=`. `extra` are whole, unsigned header lines.
        """
        self._refresh()
        path, _, query = target.partition("?")
        headers = (
            f"host:{self.host}\nx-amz-content-sha256:{payload_hash}\nx-amz-date:{self._date}\n"
        )
        canonical = f"{method}\n{path}\n{query}\n{headers}\n{SIGNED_HEADERS}\n{payload_hash}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self._date}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        content_length = "" if length is None else f"Content-Length: {length}\r\n"
        return (
            f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\n{content_length}"
            f"x-amz-content-sha256: {payload_hash}\r\nx-amz-date: {self._date}\r\n{extra}"
            f"Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{self._scope}, "
            f"SignedHeaders={SIGNED_HEADERS}, Signature={signature}\r\n\r\n"
        ).encode()

    def put(self, target: str, body: bytes = b"") -> bytes:
        """A whole PUT with the hash of its body."""
        payload_hash = hashlib.sha256(body).hexdigest()
        return self.head("PUT", target, length=len(body), payload_hash=payload_hash) + body

    def unsigned_put(self, target: str, length: int) -> bytes:
        """The head of a PUT whose body is not covered by the signature."""
        return self.head("PUT", target, length=length, payload_hash=UNSIGNED_PAYLOAD)

    def post(self, target: str, body: bytes = b"") -> bytes:
        """A whole POST; with the MD5 that DeleteObjects demands."""
        payload_hash = hashlib.sha256(body).hexdigest()
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode() if body else ""
        extra = f"Content-MD5: {md5}\r\n" if md5 else ""
        head = self.head("POST", target, length=len(body), payload_hash=payload_hash, extra=extra)
        return head + body

    def _refresh(self) -> None:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = iso_basic(now)
            day = self._date[:8]
            self._scope = f"{day}/{REGION}/s3/aws4_request"
            key = f"AWS4{SECRET_KEY}".encode()
            for part in self._scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = key
