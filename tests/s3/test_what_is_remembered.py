"""What front ends remember between requests never outlives a change that was answered.

Every check goes over connections to both front ends that have served the same request before, with
the very same bytes: the first request after the change must already see it.
"""

from __future__ import annotations

import http.client
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from mypy_boto3_s3 import S3Client

from objectstore_app.protocol.sigv4_signer import presign, sign_request

from .conftest import make_client
from .server import Keys, Server
from .test_people import email, objectstore

CONNECTIONS = 12
"""So many that both front ends have some: the kernel spreads them."""


def connect(server: Server) -> http.client.HTTPConnection:
    if server.endpoint.startswith("http:"):
        return http.client.HTTPConnection(server.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(server.host, context=context)


class Warm:
    """Connections that send the same request again and again."""

    def __init__(self, server: Server, held: ExitStack) -> None:
        self._server = server
        self._connections = [
            held.enter_context(closing(connect(server))) for _ in range(CONNECTIONS)
        ]

    def signed(self, keys: Keys, method: str, target: str) -> dict[str, str]:
        return sign_request(
            method,
            target,
            {"host": self._server.host},
            access_key=keys.access_key,
            secret=keys.secret_key,
            region="us-east-1",
            now=time.time(),
        )

    def answers(self, target: str, headers: dict[str, str] | None = None) -> set[tuple[int, str]]:
        """Status and error code of a GET on every connection."""
        seen = set()
        for connection in self._connections:
            connection.request("GET", target, headers=headers or {})
            response = connection.getresponse()
            body = response.read().decode("latin-1")
            seen.add((response.status, body.partition("<Code>")[2].partition("</Code>")[0]))
        return seen


@pytest.fixture
def warm(server: Server) -> Iterator[Warm]:
    with ExitStack() as held:
        yield Warm(server, held)


def add(server: Server, access: str, secret: str) -> str:
    address = email()
    result = objectstore(server, "add", address, "--access-key", access, "--secret-key", secret)
    assert result.returncode == 0, result.stderr
    return address


@pytest.mark.parametrize("in_query", [False, True])
def test_removed_key_stops_working_at_the_next_request(
    server: Server, warm: Warm, in_query: bool
) -> None:
    keys = Keys("KEY" + secrets.token_hex(6), "secret-" + secrets.token_hex(10))
    address = add(server, keys.access_key, keys.secret_key)
    target, headers = "/", None
    if in_query:
        target = presign(
            "GET",
            "/",
            {"host": server.host},
            access_key=keys.access_key,
            secret=keys.secret_key,
            region="us-east-1",
            now=time.time(),
        )
    else:
        headers = warm.signed(keys, "GET", "/")
    for _ in range(2):
        assert warm.answers(target, headers) == {(200, "")}
    assert objectstore(server, "remove", address).returncode == 0
    assert warm.answers(target, headers) == {(403, "InvalidAccessKeyId")}


def test_key_with_another_secret_is_another_key(server: Server, warm: Warm) -> None:
    access = "KEY" + secrets.token_hex(6)
    old, new = (Keys(access, f"secret-{secrets.token_hex(10)}") for _ in range(2))
    before = warm.signed(old, "GET", "/")
    after = warm.signed(new, "GET", "/")
    address = add(server, access, old.secret_key)
    assert warm.answers("/", before) == {(200, "")}
    assert warm.answers("/", after) == {(403, "SignatureDoesNotMatch")}
    assert objectstore(server, "remove", address).returncode == 0
    add(server, access, new.secret_key)
    assert warm.answers("/", before) == {(403, "SignatureDoesNotMatch")}
    assert warm.answers("/", after) == {(200, "")}
    objectstore(server, "remove", access)


def test_changed_acls_act_at_the_next_request(s3: S3Client, warm: Warm, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    for _ in range(2):
        assert warm.answers(f"/{bucket}/k") == {(200, "")}
        assert warm.answers(f"/{bucket}") == {(200, "")}
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    assert warm.answers(f"/{bucket}/k") == {(403, "AccessDenied")}
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert warm.answers(f"/{bucket}") == {(403, "AccessDenied")}
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert warm.answers(f"/{bucket}") == {(200, "")}


def test_bucket_comes_and_goes_at_the_next_request(server: Server, warm: Warm) -> None:
    s3 = make_client(server, server.root)
    name = f"remembered-{secrets.token_hex(6)}"
    headers = warm.signed(server.root, "GET", f"/{name}")
    for _ in range(2):
        assert warm.answers(f"/{name}", headers) == {(404, "NoSuchBucket")}
        s3.create_bucket(Bucket=name)
        assert warm.answers(f"/{name}", headers) == {(200, "")}
        s3.delete_bucket(Bucket=name)
    assert warm.answers(f"/{name}", headers) == {(404, "NoSuchBucket")}


def test_remembered_header_does_not_prove_another_request(
    server: Server, warm: Warm, s3: S3Client, bucket: str
) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    headers = warm.signed(server.root, "GET", f"/{bucket}/a")
    assert warm.answers(f"/{bucket}/a", headers) == {(200, "")}
    assert warm.answers(f"/{bucket}/b", headers) == {(403, "SignatureDoesNotMatch")}
    stamp = headers["x-amz-date"]
    later = {**headers, "x-amz-date": stamp[:-2] + ("1Z" if stamp.endswith("0Z") else "0Z")}
    assert warm.answers(f"/{bucket}/a", later) == {(403, "SignatureDoesNotMatch")}
    unsigned = {**headers, "x-amz-meta-a": "1"}
    assert warm.answers(f"/{bucket}/a", unsigned) == {(403, "AccessDenied")}
