"""The command line's client of a running store's admin API: signed JSON over HTTP or HTTPS.

Keys come from flags, from `OBJECTSTORE_ACCESS_KEY` / `OBJECTSTORE_SECRET_KEY`, from `AWS_*`, or
from a profile of the AWS credentials file, in this order.
"""

from __future__ import annotations

import configparser
import hashlib
import http.client
import json
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from ..protocol.sigv4_signer import sign_request

TIMEOUT_S = 30.0
ATTEMPTS_MAX = 4
RETRY_PAUSE_S = 0.5

Json = dict[str, "Json"] | list["Json"] | str | int | bool | None


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str


class AdminClient:
    """Requests to one endpoint; every failure becomes a `click.ClickException` that says why."""

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        *,
        region: str,
        ca: str | None,
        insecure: bool,
    ) -> None:
        parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.ClickException(f"--endpoint {endpoint!r}: expected http(s)://HOST:PORT")
        self._netloc = parts.netloc
        self._tls = _tls_context(ca, insecure=insecure) if parts.scheme == "https" else None
        self._endpoint = f"{parts.scheme}://{parts.netloc}"
        self._credentials = credentials
        self._region = region

    def call(self, method: str, target: str, body: Json = None) -> Json:
        """Return the decoded answer.

        A store that refuses the connection or says 503 is asked again a few times: nothing was done
        then.
        """
        data = b"" if body is None else json.dumps(body).encode()
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                status, answer = self._send(method, target, data)
            except ConnectionRefusedError as error:
                if attempt == ATTEMPTS_MAX:
                    raise click.ClickException(
                        f"no store answers at {self._endpoint}: {error.strerror}"
                    ) from error
            except ssl.SSLCertVerificationError as error:
                raise click.ClickException(
                    f"{self._endpoint}: {error.verify_message}; give --ca FILE (the store's "
                    "tls/cert.pem) or --insecure"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise click.ClickException(f"{self._endpoint}: {error}") from error
            else:
                if status != 503 or attempt == ATTEMPTS_MAX:
                    return _decoded(status, answer)
            time.sleep(RETRY_PAUSE_S * attempt)
        raise click.ClickException(f"{self._endpoint} does not answer")

    def _send(self, method: str, target: str, data: bytes) -> tuple[int, bytes]:
        headers = {"Host": self._netloc}
        if data:
            headers["Content-Type"] = "application/json"
        signed = sign_request(
            method,
            target,
            headers,
            access_key=self._credentials.access_key,
            secret=self._credentials.secret_key,
            region=self._region,
            now=time.time(),
            payload_hash=hashlib.sha256(data).hexdigest(),
        )
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self._netloc, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(
                self._netloc, timeout=TIMEOUT_S, context=self._tls
            )
        try:
            connection.request(method, target, data or None, signed)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def find_credentials(
    access_key: str | None, secret_key: str | None, profile: str | None
) -> Credentials:
    """Raises: click.ClickException when nothing gives a pair of keys."""
    if access_key or secret_key:
        if not (access_key and secret_key):
            raise click.UsageError("give both the access key and the secret key")
        return Credentials(access_key, secret_key)
    if profile is None:
        for names in (
            ("OBJECTSTORE_ACCESS_KEY", "OBJECTSTORE_SECRET_KEY"),
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ):
            pair = [os.environ.get(name, "") for name in names]
            if all(pair):
                return Credentials(*pair)
    return _from_profile(profile or os.environ.get("AWS_PROFILE") or "default")


def _from_profile(profile: str) -> Credentials:
    path = Path(
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    )
    file = configparser.RawConfigParser()
    try:
        file.read(path)
    except configparser.Error as error:
        raise click.ClickException(f"{path}: {error}") from error
    if file.has_section(profile):
        section = file[profile]
        access_key = section.get("aws_access_key_id", "")
        secret_key = section.get("aws_secret_access_key", "")
        if access_key and secret_key:
            return Credentials(access_key, secret_key)
    raise click.ClickException(
        "no administrator's keys: set OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY (or AWS_*),"
        f" or give --access-key and --secret-key, or a profile (there is no {profile!r} in {path})"
    )


def _tls_context(ca: str | None, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _decoded(status: int, answer: bytes) -> Json:
    try:
        decoded: Json = json.loads(answer)
    except ValueError as error:
        raise click.ClickException(
            f"status {status}, and the answer is not an object store's"
        ) from error
    if status >= 400:
        told = decoded if isinstance(decoded, dict) else {}
        message, code = told.get("message"), told.get("code")
        raise click.ClickException(f"{message} ({code}, request {told.get('request_id')})")
    return decoded
