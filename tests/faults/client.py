"""A small signed S3 client over one kept-alive connection, cheap enough to be a load."""

from __future__ import annotations

import hashlib
import http.client
import time
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree.ElementTree import Element

from defusedxml import ElementTree

from objectstore_app.protocol.sigv4_signer import sign_request

from .store import ACCESS_KEY, SECRET_KEY

TIMEOUT_S = 30.0
HERE = "127.0.0.1"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class LostError(Exception):
    """No answer, or one that says "try again": the outcome of a write is unknown."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "").strip('"')

    @property
    def xml(self) -> Element:
        root: Element = ElementTree.fromstring(self.body)
        return root

    def code(self) -> str:
        return text(self.xml, "Code", namespace="")


class Client:
    """One connection, made when it is needed. After LostError the next call makes a new one."""

    def __init__(
        self, port: int, host: str = HERE, access_key: str = ACCESS_KEY, secret: str = SECRET_KEY
    ) -> None:
        self.port = port
        self.host = host
        self._access_key = access_key
        self._secret = secret
        self._connection: http.client.HTTPConnection | None = None
        self.connections_made = 0

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Raises LostError for a broken connection and for 503."""
        signed = sign_request(
            method,
            target,
            {"Host": f"{self.host}:{self.port}", **(headers or {})},
            access_key=self._access_key,
            secret=self._secret,
            region="us-east-1",
            now=time.time(),
            payload_hash=hashlib.sha256(body).hexdigest(),
        )
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
            self.connections_made += 1
        try:
            self._connection.request(method, target, body or None, signed)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise LostError(f"{method} {target}: {error!r}") from error
        if response.status == 503:
            raise LostError(f"{method} {target}: 503")
        if response.will_close:
            self.close()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, data
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def path(bucket: str, key: str, version_id: str = "") -> str:
    """The request target of an object."""
    query = f"?versionId={quote(version_id, safe='')}" if version_id else ""
    return f"/{bucket}/{quote(key)}{query}"


def text(parent: Element, name: str, *, namespace: str = NAMESPACE) -> str:
    """The text of a child element, empty when there is none."""
    return parent.findtext(f"{namespace}{name}") or ""
