"""Targets, bucket and key, names, and the operation table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol import routing
from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.routing import (
    IMPLEMENTED,
    CopySource,
    check_bucket_name,
    check_key,
    locate,
    operation_of,
    parse_copy_source,
)
from objectstore_app.protocol.target import Query, uri_encode

DOMAINS = (
    "s3.example.com",
    "store.local",
)


def code_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(S3Error) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("target", "host", "bucket", "key"),
    [
        (b"/", b"s3.example.com", "", b""),
        (b"/bkt", b"s3.example.com", "bkt", b""),
        (b"/bkt/", b"s3.example.com:7200", "bkt", b""),
        (b"/bkt/a/b", b"127.0.0.1:7200", "bkt", b"a/b"),
        (b"/bkt//a", b"", "bkt", b"/a"),
        (b"/bkt/../a/./b//", b"", "bkt", b"../a/./b//"),
        (b"/bkt/a%2Fb%20c+d", b"", "bkt", b"a/b c+d"),
        (b"/bkt/%C3%A9", b"", "bkt", "é".encode()),
        (b"/k/v", b"bkt.s3.example.com:7200", "bkt", b"k/v"),
        (b"/", b"BKT.S3.Example.Com.", "bkt", b""),
        (b"//k", b"my.dotted.bkt.store.local", "my.dotted.bkt", b"/k"),
        (b"/bkt/k", b"other.example.com", "bkt", b"k"),
        (b"/bkt/k", b"evils3.example.com", "bkt", b"k"),
        (b"/bkt/k", b"[::1]:7200", "bkt", b"k"),
        (b"http://bkt.store.local/k", b"BKT.store.local", "bkt", b"k"),
        (b"https://store.local", b"store.local", "", b""),
    ],
)
def test_bucket_and_key(target: bytes, host: bytes, bucket: str, key: bytes) -> None:
    location = locate(target, host, DOMAINS)
    assert (location.bucket, location.key) == (bucket, key)
    assert location.virtual_hosted is (bool(bucket) and not target.startswith(b"/bkt"))


@pytest.mark.parametrize(
    "host", [b"bkt.store.local", b"127.0.0.1:7200", b"", b"other.store.local."]
)
def test_a_target_never_names_another_host_than_the_signed_header(host: bytes) -> None:
    target = b"http://other.store.local/k?X-Amz-Signature=0"
    assert code_of(locate, target, host, DOMAINS) == "InvalidURI"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"*", "InvalidURI"),
        (b"ftp://a/b", "InvalidURI"),
        (b"/bkt/a#b", "InvalidURI"),
        (b"/bkt/%", "InvalidURI"),
        (b"/bkt/%4", "InvalidURI"),
        (b"/bkt/%zz", "InvalidURI"),
        (b"/bkt/%ff%fe", "InvalidURI"),
        (b"/bkt/%ed%a0%80", "InvalidURI"),
        (b"/bkt/a%00b", "InvalidArgument"),
        (b"/bkt?prefix=%g", "InvalidURI"),
        (b"/bkt?" + b"&" * 300, "InvalidURI"),
        (b"/bkt/" + b"k" * 1025, "KeyTooLongError"),
        (b"/bkt/" + b"%C3%A9" * 512 + b"k", "KeyTooLongError"),
        (b"/Bkt/k", "InvalidBucketName"),
        (b"//k", "InvalidBucketName"),
        (b"/%ff%fe/k", "InvalidBucketName"),
    ],
)
def test_bad_targets(target: bytes, code: str) -> None:
    assert code_of(locate, target, b"h", DOMAINS) == code


def test_longest_key_is_taken() -> None:
    assert len(locate(b"/bkt/" + b"%C3%A9" * 512, b"", ()).key) == 1024


@pytest.mark.parametrize("name", ["abc", "a" * 63, "a.b-c", "1bucket", "a1.2.3.4", "0.0.0", "a--b"])
def test_good_bucket_names(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-abc",
        "abc-",
        ".abc",
        "abc.",
        "a..b",
        "a.-b",
        "a-.b",
        "192.168.5.4",
        "xn--abc",
        "sthree-abc",
        "amzn-s3-demo-a",
        "abc-s3alias",
        "abc--ol-s3",
        "abc--x-s3",
        "abc\n",
        "äbc",
        "a b",
        "",
    ],
)
def test_bad_bucket_names(name: str) -> None:
    assert code_of(check_bucket_name, name) == "InvalidBucketName"


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200))
def test_every_utf8_key_survives_encoding(text: str) -> None:
    try:
        key = text.encode()
    except UnicodeEncodeError:
        return
    if b"\0" in key:
        return
    target = f"/bkt/{uri_encode(key, '/')}".encode()
    assert locate(target, b"h", DOMAINS).key == key


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=40))
def test_no_target_crashes(target: bytes, host: bytes) -> None:
    for method in ("GET", "PUT", "DELETE", "POST", "HEAD", "TRACE"):
        with contextlib.suppress(S3Error):
            assert operation_of(method, locate(b"/" + target, host, DOMAINS)) in IMPLEMENTED


def route(method: str, target: bytes, *, copy: bool = False) -> str:
    return operation_of(method, locate(target, b"h", ()), copy_source=copy)


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", b"/", "ListBuckets"),
        ("PUT", b"/bkt", "CreateBucket"),
        ("HEAD", b"/bkt/", "HeadBucket"),
        ("DELETE", b"/bkt", "DeleteBucket"),
        ("GET", b"/bkt", "ListObjects"),
        ("GET", b"/bkt?prefix=a&x-id=ListObjects", "ListObjects"),
        ("GET", b"/bkt?list-type=2&encoding-type=url", "ListObjectsV2"),
        ("GET", b"/bkt?versions", "ListObjectVersions"),
        ("GET", b"/bkt?uploads", "ListMultipartUploads"),
        ("GET", b"/bkt?location=", "GetBucketLocation"),
        ("GET", b"/bkt?versioning", "GetBucketVersioning"),
        ("PUT", b"/bkt?versioning", "PutBucketVersioning"),
        ("GET", b"/bkt?acl", "GetBucketAcl"),
        ("PUT", b"/bkt?acl", "PutBucketAcl"),
        ("POST", b"/bkt?delete", "DeleteObjects"),
        ("GET", b"/bkt/k?versionId=1", "GetObject"),
        ("GET", b"/bkt/k?partNumber=1", "GetObject"),
        ("HEAD", b"/bkt/k", "HeadObject"),
        ("PUT", b"/bkt/k?x-id=PutObject", "PutObject"),
        ("DELETE", b"/bkt/k", "DeleteObject"),
        ("GET", b"/bkt/k?acl", "GetObjectAcl"),
        ("PUT", b"/bkt/k?acl", "PutObjectAcl"),
        ("POST", b"/bkt/k?uploads", "CreateMultipartUpload"),
        ("PUT", b"/bkt/k?partNumber=1&uploadId=u", "UploadPart"),
        ("GET", b"/bkt/k?uploadId=u", "ListParts"),
        ("POST", b"/bkt/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", b"/bkt/k?uploadId=u", "AbortMultipartUpload"),
    ],
)
def test_operations(method: str, target: bytes, operation: str) -> None:
    assert route(method, target) == operation


def test_copy_source_makes_the_difference() -> None:
    assert route("PUT", b"/bkt/k", copy=True) == "CopyObject"
    assert route("PUT", b"/bkt/k?partNumber=1&uploadId=u", copy=True) == "UploadPartCopy"


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("DELETE", b"/bkt?policy", "NotImplemented"),
        ("PUT", b"/bkt?website", "NotImplemented"),
        ("DELETE", b"/bkt/k?tagging", "NotImplemented"),
        ("POST", b"/bkt", "NotImplemented"),
        ("DELETE", b"/bkt?acl", "MethodNotAllowed"),
        ("DELETE", b"/bkt?versioning", "MethodNotAllowed"),
        ("DELETE", b"/bkt/k?acl", "MethodNotAllowed"),
        ("POST", b"/bkt/k", "MethodNotAllowed"),
        ("PATCH", b"/bkt/k", "MethodNotAllowed"),
        ("PUT", b"/", "MethodNotAllowed"),
        ("OPTIONS", b"/bkt/k", "AccessForbidden"),
        ("GET", b"/bkt?acl&versions", "InvalidArgument"),
        ("GET", b"/bkt?list-type=3", "InvalidArgument"),
        ("PUT", b"/bkt/k?uploadId=u", "InvalidArgument"),
        ("PUT", b"/bkt/k?partNumber=1", "InvalidArgument"),
    ],
)
def test_refused_operations(method: str, target: bytes, code: str) -> None:
    assert code_of(route, method, target) == code


def test_refusals_say_which_operation_and_which_methods() -> None:
    with pytest.raises(S3Error, match="DeleteBucketPolicy"):
        route("DELETE", b"/bkt?policy")
    with pytest.raises(S3Error) as caught:
        route("POST", b"/bkt/k?acl")
    assert caught.value.headers == [("Allow", "GET, PUT")]


def test_no_sub_resource_reaches_the_plain_operation() -> None:
    for level, path in ((routing._BUCKET, b"/bkt?"), (routing._OBJECT, b"/bkt/k?partNumber=1&")):
        plain = set(level[""].values()) | {"CopyObject", "ListObjectsV2"}
        for sub_resource in filter(None, level):
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                try:
                    operation = route(method, path + sub_resource.encode())
                except S3Error:
                    continue
                assert operation not in plain, (method, sub_resource)


def test_every_implemented_operation_is_in_the_tables() -> None:
    tables = (routing._SERVICE, routing._BUCKET, routing._OBJECT)
    named = {name for table in tables for methods in table.values() for name in methods.values()}
    assert named | {"ListObjectsV2", "CopyObject", "UploadPartCopy"} >= IMPLEMENTED


def test_copy_sources() -> None:
    assert parse_copy_source(b"/bkt/a%2Fb") == CopySource("bkt", b"a/b")
    assert parse_copy_source(b"bkt/a?versionId=v1") == CopySource("bkt", b"a", "v1")
    assert parse_copy_source(b"bkt/a%3FversionId=v1") == CopySource("bkt", b"a?versionId=v1")
    assert parse_copy_source(b"%2Fbkt%2Fa+b") == CopySource("bkt", b"a+b")
    for bad in (b"", b"bkt", b"bkt/", b"/", b"bkt/a?versionId="):
        assert code_of(parse_copy_source, bad) == "InvalidArgument"
    assert code_of(parse_copy_source, b"BKT/a") == "InvalidBucketName"
    assert code_of(parse_copy_source, b"bkt/%zz") == "InvalidURI"


def test_query_values() -> None:
    query = Query(b"a=1&a=2&b&c=x+y%2B&=z&max-keys=5000&neg=-1&bad=%ff&nul=%00&big=99999999999")
    assert query.text("a") == "1"
    assert query.raw("b") == b""
    assert query.text("c") == "x y+"
    assert query.raw("missing") is None
    assert "b" in query
    assert query.integer("max-keys", 1000, 1000) == 1000
    assert query.integer("missing", 7, 1000) == 7
    assert query.integer("b", 7, 1000) == 7
    assert query.key("missing") == b""
    for call in (
        lambda: query.integer("neg", 0, 1000),
        lambda: query.integer("c", 0, 1000),
        lambda: query.integer("big", 0, 1000),
        lambda: query.integer("a", 0, 1000, minimum=2),
        lambda: query.text("bad"),
        lambda: query.key("nul"),
    ):
        assert code_of(call) == "InvalidArgument"


def test_empty_key_is_refused() -> None:
    assert code_of(check_key, b"") == "InvalidArgument"
