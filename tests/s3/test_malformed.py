"""Requests made of odd pieces, seeded: each gets an answer, none a 500, and the server goes on.

Pieces are drawn from what has broken S3 servers before; half of the requests are signed over their
exact bytes, so that the odd value reaches the operation instead of the signature check.
"""

from __future__ import annotations

import http.client
import random
import secrets
import socket
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest
from mypy_boto3_s3 import S3Client

from objectstore_app.protocol.dates import iso_basic
from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.sigv4_core import (
    canonical_request,
    signing_key,
    string_to_sign,
)
from objectstore_app.protocol.target import split_target

from .conftest import make_client, remove_bucket
from .raw import Raw
from .server import Server

REQUESTS = 1000
SEED = 20260101

METHODS = [b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"get", b"CONNECT"]
KEYS = [
    b"",
    b"/k",
    b"/new",
    b"//",
    b"/%00",
    b"/%ff",
    b"/%",
    b"/..%2f..%2f",
    b"/k/../k",
    b"/" + b"%C3%A9" * 300,
    b"/" + b"x" * 1024,
    b"/" + b"x" * 1025,
    b"/k\x80",
    b"/k#f",
    b"/k k",
    b"/+",
]
NAMES = [
    *(b"acl", b"uploads", b"uploadId", b"partNumber", b"versionId", b"versioning", b"versions"),
    *(b"delete", b"location", b"list-type", b"prefix", b"delimiter", b"marker", b"max-keys"),
    *(b"continuation-token", b"start-after", b"encoding-type", b"key-marker", b"attributes"),
    *(b"version-id-marker", b"upload-id-marker", b"max-parts", b"part-number-marker", b"policy"),
    *(b"response-content-type", b"response-content-disposition", b"tagging", b"fetch-owner"),
    *(b"X-Amz-Signature", b"X-Amz-Algorithm", b"x-id", b"%zz", b""),
]
HOT_NAMES = [
    *(
        b"versionId",
        b"versionId",
        b"response-content-disposition",
        b"prefix",
        b"continuation-token",
    ),
    *(b"partNumber", b"uploadId", b"version-id-marker", b"delimiter"),
]
"""What operations hand on the farthest: half of the parameters are these."""
VALUES = [
    *(b"", b"0", b"1", b"2", b"-1", b"10001", b"99999999999999999999", b"null", b"url", b"k"),
    *(b"%00", b"%0d%0aSet-Cookie:a", b"%E6%97%A5", b"%ff", b"%", b"/", b"MQ==", b"'\"<&"),
    *(b"v" * 26, b"\xc2\xb2", b"%C2%B2", b"%ED%A0%80", b"00000000000000000000000000"),
]
HEADERS = [
    *(b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-range", b"content-md5"),
    *(b"x-amz-copy-source", b"x-amz-copy-source-range", b"x-amz-acl", b"x-amz-meta-a", b"expect"),
    *(b"x-amz-checksum-crc32", b"x-amz-checksum-algorithm", b"x-amz-checksum-sha256"),
    *(b"x-amz-trailer", b"x-amz-decoded-content-length", b"x-amz-content-sha256", b"content-type"),
    *(b"x-amz-object-attributes", b"x-amz-mp-object-size", b"x-amz-metadata-directive"),
    *(b"content-encoding", b"x-amz-storage-class", b"connection", b"x-amz-checksum-mode"),
    *(b"x-amz-sdk-checksum-algorithm", b"x-amz-security-token", b"x-amz-date", b"authorization"),
]
FIELD_VALUES = [
    *(b"", b"*", b"a", b"bytes=0-", b"bytes=-0", b"bytes=5-1", b"bytes=0-99999999999999999999"),
    *(b"/%b/k", b"%b/k?versionId=", b"%b/missing", b"/", b"%zz/k", b"public-read", b"COPY"),
    *(b"\xe9\xff", b"a\tb", b"x" * 4000, b"-1", b"18446744073709551616", b"CRC32", b"ENABLED"),
    *(b"UNSIGNED-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"100-continue", b"chunked"),
    *(b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"x-amz-checksum-crc32", b"AAAAAA==", b"close"),
    *(b"Thu, 01 Jan 1970 00:00:00 GMT", b"Sun, 99 Nov 9999 99:99:99 GMT", b"ETag", b"AWS a:b"),
]
BODIES = [
    b"",
    b"x",
    b"x" * 200_000,
    b"<",
    b"<Delete></Delete>",
    b"<Delete><Object><Key>k</Key><VersionId>\xe6\x97\xa5</VersionId></Object></Delete>",
    b"<Delete>" + b"<Object><Key>a&#1;</Key></Object>" * 3 + b"</Delete>",
    b"<Delete>" + b"<Object><Key>\xef\xbf\xbf</Key></Object>" * 1001 + b"</Delete>",
    b"<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>",
    b"<CreateBucketConfiguration><LocationConstraint>\xe6</LocationConstraint>",
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\xc3\xa9</ETag></Part>"
    b"</CompleteMultipartUpload>",
    b"<?xml version='1.0' encoding='utf-16'?><Delete/>",
    b"<?xml version='1.0' encoding='rot13'?><Delete/>",
    b"<?xml version='1.0' encoding='idna'?><Delete/>",
    b"<AccessControlPolicy><Owner/><AccessControlList>" + b"<Grant/>" * 200,
    b"5;chunk-signature="
    + b"0" * 64
    + b"\r\nhello\r\n0;chunk-signature="
    + b"0" * 64
    + b"\r\n\r\n",
    b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
    b"\x00\xff" * 100,
]
FRAMINGS = ["length"] * 6 + ["chunked", "chunked", "short", "none", "broken", "both"]


@pytest.fixture(scope="module")
def buckets(server: Server) -> Iterator[list[str]]:
    """A plain and a versioned bucket, with one object each, for the odd requests to hit."""
    s3: S3Client = make_client(server, server.root)
    names = [f"odd-{secrets.token_hex(6)}" for _ in range(2)]
    for name in names:
        s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=names[1], VersioningConfiguration={"Status": "Enabled"})
    for name in names:
        s3.put_object(Bucket=name, Key="k", Body=b"0123456789")
    yield names
    for name in names:
        remove_bucket(s3, name)


def test_odd_requests_are_answered_and_never_500(
    server: Server, raw: Raw, buckets: list[str]
) -> None:
    rng = random.Random(SEED)
    before = faults(raw)
    for number in range(REQUESTS):
        request, method = odd_request(rng, server, rng.choice(buckets).encode())
        status = exchange(server, request, method)
        assert status is not None, f"seed {SEED}, request {number}: no answer to {request[:2000]!r}"
        assert 200 <= status < 600, (number, request[:2000])
        assert status != 500, f"seed {SEED}, request {number}: 500 to {request[:2000]!r}"
    assert faults(raw) == before
    assert raw("GET", "/").status == 200


def odd_request(rng: random.Random, server: Server, bucket: bytes) -> tuple[bytes, bytes]:
    method = rng.choice(METHODS[:5] if rng.random() < 0.9 else METHODS)
    target = b"/" + bucket + rng.choice(KEYS[:3] if rng.random() < 0.6 else KEYS)
    if method == b"DELETE" and target.endswith(bucket):
        method = b"GET"
    pairs = [
        (rng.choice(HOT_NAMES if rng.random() < 0.5 else NAMES), rng.choice(VALUES))
        for _ in range(rng.choice((0, 0, 1, 1, 2)))
    ]
    if pairs:
        target += b"?" + b"&".join(b"%b=%b" % pair for pair in pairs)
    body = rng.choice(BODIES) if method in (b"PUT", b"POST") or rng.random() < 0.1 else b""
    fields = {
        rng.choice(HEADERS): rng.choice(FIELD_VALUES).replace(b"%b", bucket)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))
    }
    fields[b"host"] = server.host.encode()
    if rng.random() < 0.75:
        fields = signed(server, method, target, fields, body)
    head = b"%b %b HTTP/1.1\r\n" % (method, target)
    head += b"".join(b"%b: %b\r\n" % field for field in fields.items())
    return head + framed(rng, body), method


def signed(
    server: Server, method: bytes, target: bytes, fields: dict[bytes, bytes], body: bytes
) -> dict[bytes, bytes]:
    """The fields with an Authorization that fits them, or as they are where none can."""
    now = iso_basic(int(time.time()))
    fields = {
        b"x-amz-date": now.encode(),
        b"x-amz-content-sha256": sha256(body).hexdigest().encode(),
        **fields,
    }
    stamp = fields[b"x-amz-date"]
    names = sorted(fields)
    try:
        canonical = canonical_request(
            method.decode(), split_target(target), list(fields.items()), names,
            fields[b"x-amz-content-sha256"].decode("latin-1"),
        )  # fmt: skip
    except S3Error:
        return fields
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    key = signing_key(server.root.secret_key, now[:8], "us-east-1")
    signature = key.sign(string_to_sign(stamp, scope.encode(), canonical))
    credential = f"{server.root.access_key}/{scope}"
    names_text = b";".join(names).decode()
    value = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names_text}, "
        f"Signature={signature}"
    )
    return {b"authorization": value.encode(), **fields}


def framed(rng: random.Random, body: bytes) -> bytes:
    """The end of the head and the body, in one of several framings."""
    chunked = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:7], body[7:]) if piece
    )
    match rng.choice(FRAMINGS):
        case "length":
            return b"content-length: %d\r\n\r\n%b" % (len(body), body)
        case "chunked":
            return b"transfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunked
        case "short":
            return b"content-length: %d\r\n\r\n%b" % (len(body) + 10, body)
        case "broken":
            return b"transfer-encoding: chunked\r\n\r\n%bzz\r\n" % chunked
        case "both":
            return b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n%b" % body
    return b"\r\n" + body


def exchange(server: Server, request: bytes, method: bytes) -> int | None:
    """Send the bytes, end our side, and return the status; None when there is no answer."""
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # answered and closed before all of it was taken
        response = http.client.HTTPResponse(connection, method=method.decode())
        try:
            response.begin()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        return response.status


def faults(raw: Raw) -> list[bytes]:
    """The counter of requests that ended in a programmer's fault."""
    lines = raw("GET", "/_metrics").body.splitlines()
    return [line for line in lines if line.startswith(b"objectstore_application_faults_total")]
