"""Requests below the SDK: signed by botocore's signer, sent by http.client, byte for byte."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .server import Keys, Server

TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The S3 error code, or "" """
        match = re.search(rb"<Code>(.*?)</Code>", self.body)
        return match.group(1).decode() if match else ""


class Raw:
    """Sends single requests; `keys=None` sends them unsigned."""

    def __init__(self, server: Server, keys: Keys | None) -> None:
        self.server = server
        self.keys = keys

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        host: str = "",
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        sent = self.signed_headers(method, target, body, headers or {}, host)
        used = connection or http.client.HTTPConnection(self.server.host, timeout=TIMEOUT_S)
        try:
            used.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                used.putheader(name, value)
            used.endheaders()
            if body:
                used.send(body)
            response = used.getresponse()
            data = response.read()
        finally:
            if connection is None:
                used.close()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)

    def signed_headers(
        self, method: str, target: str, body: bytes, headers: dict[str, str], host: str = ""
    ) -> dict[str, str]:
        sent: dict[str, Any] = {"Host": host or self.server.host, **headers}
        names = {name.lower() for name in headers}
        framed = names & {"content-length", "transfer-encoding"}
        if method in ("PUT", "POST", "PATCH") and not framed:
            sent["Content-Length"] = str(len(body))
        if self.keys is None:
            return sent
        request = AWSRequest(method, f"http://{sent['Host']}{target}", sent, body)
        if "x-amz-content-sha256" in names:
            request.context["payload_signing_enabled"] = False
        signer = _KeepGivenHash(
            Credentials(self.keys.access_key, self.keys.secret_key), "s3", "us-east-1"
        )
        signer.add_auth(request)
        return dict(request.headers.items())


class _KeepGivenHash(S3SigV4Auth):
    """botocore's signer, but an x-amz-content-sha256 that the test gave is signed as it is."""

    def payload(self, request: AWSRequest) -> str:
        given = request.headers.get("X-Amz-Content-SHA256")
        return given or str(super().payload(request))

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        given = request.headers.get("X-Amz-Content-SHA256")
        super()._modify_request_before_signing(request)
        if given:
            request.headers.replace_header("X-Amz-Content-SHA256", given)


def path_of(url: str) -> str:
    """The request target of a URL."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
