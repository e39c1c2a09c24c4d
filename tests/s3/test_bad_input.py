"""Malformed input of every kind: a 4xx with a code, nothing changed, the server goes on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import socket
import time

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import MakeBucket
from .raw import Raw
from .server import Server

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
)


def head_of(raw: Raw, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request's head as bytes, signed, for sending by hand."""
    sent = raw.signed_headers(method, target, body, headers)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def connect(server: Server) -> socket.socket:
    host, _, port = server.host.partition(":")
    return socket.create_connection((host, int(port or 80)), timeout=30)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def test_key_of_1025_bytes_is_too_long(s3: S3Client, bucket: str) -> None:
    for key in ("k" * 1025, "é" * 513):
        with refused("KeyTooLongError", 400):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("key", ["a%00b", "%FF%FE", "%C3", "%zz", "%"])
def test_keys_with_nul_bad_utf8_or_bad_percent_are_400(raw: Raw, bucket: str, key: str) -> None:
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    answer = raw("PUT", f"/{bucket}/{key}", b"x", headers)
    assert answer.status == 400
    assert answer.code in ("InvalidURI", "InvalidArgument")
    assert b"<Key>" not in raw("GET", f"/{bucket}").body


def test_dots_in_keys_stay_inside_the_bucket(s3: S3Client, raw: Raw, bucket: str) -> None:
    for key in ("../../etc/passwd", "..", ".", "a/../b"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    answer = raw("GET", "/../../../etc/passwd")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_header_of_1_mib_is_refused(server: Server, raw: Raw) -> None:
    with connect(server) as connection:
        with contextlib.suppress(OSError):  # refused before all of it was taken
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 2**20)
        status, body = read_answer(connection)
    assert status == 400
    assert b"RequestHeaderSectionTooLarge" in body
    assert raw("GET", "/").status == 200


def test_truncated_upload_stores_nothing(server: Server, raw: Raw, bucket: str) -> None:
    for size in (1000, 3_000_000):
        body = bytes(size)
        with connect(server) as connection:
            connection.sendall(head_of(raw, "PUT", f"/{bucket}/k", {}, body) + body[: size // 2])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
        assert raw("HEAD", f"/{bucket}/k").status == 404


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "?delete"), ("PUT", "?versioning"), ("PUT", ""), ("POST", "/k?uploadId=x")],
)
def test_xml_bombs_are_malformed_xml(raw: Raw, bucket: str, method: str, target: str) -> None:
    md5 = hashlib.md5(BOMB).digest()
    headers = {"Content-MD5": base64.b64encode(md5).decode()}
    answer = raw(method, f"/{bucket}{target}", BOMB, headers)
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_deep_and_huge_xml_is_refused(raw: Raw, bucket: str) -> None:
    deep = b"<VersioningConfiguration>" + b"<a>" * 5000
    answer = raw("PUT", f"/{bucket}?versioning", deep)
    assert (answer.status, answer.code) == (400, "MalformedXML")
    huge = b"<VersioningConfiguration>" + b" " * (3 * 2**20) + b"</VersioningConfiguration>"
    answer = raw("PUT", f"/{bucket}?versioning", huge)
    assert answer.status == 400
    assert answer.code in ("MaxMessageLengthExceeded", "MalformedXML", "EntityTooLarge")


def test_put_without_length_is_411(server: Server, raw: Raw, bucket: str) -> None:
    with connect(server) as connection:
        headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "Transfer-Encoding": "chunked"}
        head = head_of(raw, "PUT", f"/{bucket}/k", headers, b"")
        connection.sendall(head + b"1\r\nx\r\n0\r\n\r\n")
        status, body = read_answer(connection)
    assert status == 411
    assert b"MissingContentLength" in body


def test_put_over_5_gib_is_refused_before_its_body(server: Server, raw: Raw, bucket: str) -> None:
    headers = {
        "Content-Length": str(5 * 2**30 + 1),
        "Expect": "100-continue",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }
    with connect(server) as connection:
        connection.sendall(head_of(raw, "PUT", f"/{bucket}/k", headers, b""))
        status, body = read_answer(connection)
    assert status == 400
    assert b"EntityTooLarge" in body


def test_expect_100_continue_is_invited_only_when_the_put_may_go_on(
    server: Server, raw: Raw, bucket: str
) -> None:
    headers = {"Content-Length": "1", "Expect": "100-continue"}
    with connect(server) as connection:
        connection.sendall(head_of(raw, "PUT", f"/{bucket}/k", headers, b"x"))
        assert connection.recv(25).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"x")
        assert connection.recv(65536).lstrip(b"\r\n").startswith(b"HTTP/1.1 200 ")
    with connect(server) as connection:
        connection.sendall(head_of(raw, "PUT", "/no-such-bucket-0/k", headers, b"x"))
        status, body = read_answer(connection)
    assert status == 404
    assert b"NoSuchBucket" in body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_garbage_on_the_wire_is_4xx_or_5xx_and_closed(
    server: Server, raw: Raw, request_bytes: bytes
) -> None:
    with connect(server) as connection:
        connection.sendall(request_bytes)
        status, _ = read_answer(connection)
        assert 400 <= status <= 505
        assert status != 500
        assert connection.recv(1) == b""
    assert raw("GET", "/").status == 200


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "BREW", "POST"])
def test_unknown_methods_are_refused(raw: Raw, bucket: str, method: str) -> None:
    answer = raw(method, f"/{bucket}/k")
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    "query",
    ["acl&versioning", "uploads&acl", "list-type=3", "partNumber=1", "versions&max-keys=-1"],
)
def test_conflicting_or_wrong_queries_are_400(raw: Raw, bucket: str, query: str) -> None:
    target = f"/{bucket}/k" if "partNumber" in query else f"/{bucket}"
    answer = raw("PUT" if "partNumber" in query else "GET", f"{target}?{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("value", ["a%0D%0ASet-Cookie%3Ab", "%E6%97%A5", "%00"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_version_ids_that_no_header_can_hold_are_400(
    raw: Raw, bucket: str, method: str, value: str
) -> None:
    answer = raw(method, f"/{bucket}/k?versionId={value}")
    assert answer.status == 400
    assert "set-cookie" not in answer.headers


def test_response_overrides_that_no_header_can_hold_are_400(
    raw: Raw, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for value in ("%E6%97%A5.txt", "a%0D%0Ab"):
        answer = raw("GET", f"/{bucket}/k?response-content-disposition={value}")
        assert (answer.status, answer.code) == (400, "InvalidArgument")
    answer = raw("GET", f"/{bucket}/k?response-content-disposition=caf%C3%A9.txt")
    assert (answer.status, answer.headers["content-disposition"]) == (200, "café.txt")


def test_a_document_in_tiny_chunks_costs_linear_time(server: Server, raw: Raw, bucket: str) -> None:
    body = b"<Delete>" + b" " * 60_000
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "transfer-encoding": "chunked"}
    head = head_of(raw, "PUT", f"/{bucket}?versioning", headers, b"")
    with connect(server) as connection:
        started = time.monotonic()
        connection.sendall(head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        status, answer = read_answer(connection)
    assert (status, b"MalformedXML" in answer) == (400, True)
    assert time.monotonic() - started < 20


def test_an_acl_of_more_than_100_grants_is_refused(raw: Raw, bucket: str) -> None:
    grant = (
        b'<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        b'xsi:type="CanonicalUser"><ID>%b</ID></Grantee><Permission>READ</Permission></Grant>'
    ) % (b"a" * 64)
    body = (
        b"<AccessControlPolicy><Owner/><AccessControlList>%b</AccessControlList>"
        b"</AccessControlPolicy>" % (grant * 101)
    )
    assert raw("PUT", f"/{bucket}?acl", body).code == "MalformedACLError"


def test_a_target_cannot_name_another_bucket_than_the_signed_host(
    server: Server, raw: Raw, s3: S3Client, make_bucket: MakeBucket
) -> None:
    shared, private = make_bucket(), make_bucket()
    for name in (shared, private):
        s3.put_object(Bucket=name, Key="k", Body=name.encode())
    host = f"{shared}.{server.domain}"
    sent = raw.signed_headers("GET", "/k", b"", {}, host)
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    for authority, wanted in ((host, 200), (f"{private}.{server.domain}", 400)):
        with connect(server) as connection:
            connection.sendall(f"GET http://{authority}/k HTTP/1.1\r\n{lines}\r\n".encode())
            status, body = read_answer(connection)
        assert (status, body == shared.encode()) == (wanted, wanted == 200)


def test_keys_that_look_like_our_own_paths_are_keys_on_a_bucket_s_host(
    server: Server, raw: Raw, bucket: str
) -> None:
    host = f"{bucket}.{server.domain}"
    for key in ("/_admin/v1/users", "/_health/live", "/_metrics"):
        assert raw("PUT", key, b"mine", host=host).status == 200
        assert raw("GET", key, host=host).body == b"mine"
