"""Ranges and conditional reads and writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .raw import Raw

BODY = bytes(range(100))
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def key(s3: S3Client, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    return "k"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=90-", 90, 99),
        ("bytes=-5", 95, 99),
        ("bytes=-1000", 0, 99),
        ("bytes=50-1000", 50, 99),
    ],
)
def test_range_gives_206_and_its_bytes(
    raw: Raw, bucket: str, key: str, asked: str, first: int, last: int
) -> None:
    for method in ("GET", "HEAD"):
        answer = raw(method, f"/{bucket}/{key}", headers={"Range": asked})
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/100"
        assert answer.headers["content-length"] == str(last - first + 1)
    assert raw("GET", f"/{bucket}/{key}", headers={"Range": asked}).body == BODY[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=-0", "bytes=200-300"])
def test_range_outside_is_416_with_the_size(raw: Raw, bucket: str, key: str, asked: str) -> None:
    answer = raw("GET", f"/{bucket}/{key}", headers={"Range": asked})
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["content-range"] == "bytes */100"


@pytest.mark.parametrize("asked", ["bytes=1-2,5-6", "bytes=x", "lines=1-2", "bytes=5-2", "bytes"])
def test_malformed_or_many_ranges_give_the_whole(
    raw: Raw, bucket: str, key: str, asked: str
) -> None:
    answer = raw("GET", f"/{bucket}/{key}", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, BODY)


def test_any_range_of_an_empty_object_is_416(s3: S3Client, raw: Raw, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert raw("GET", f"/{bucket}/empty", headers={"Range": "bytes=0-"}).status == 416


def test_ranges_across_chunks_of_a_large_object(s3: S3Client, bucket: str) -> None:
    body = bytes(range(251)) * 40_000
    s3.put_object(Bucket=bucket, Key="large", Body=body)
    for first, last in ((0, 10), (4 * 2**20 - 5, 4 * 2**20 + 5), (131_071, 1_500_000)):
        got = s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={first}-{last}")
        assert got["Body"].read() == body[first : last + 1]


def test_if_range_with_another_etag_gives_the_whole(raw: Raw, bucket: str, key: str) -> None:
    etag = raw("HEAD", f"/{bucket}/{key}").headers["etag"]
    headers = {"Range": "bytes=0-1", "If-Range": etag}
    assert raw("GET", f"/{bucket}/{key}", headers=headers).status == 206
    headers["If-Range"] = '"other"'
    assert raw("GET", f"/{bucket}/{key}", headers=headers).status == 200


def test_if_match_on_get(s3: S3Client, bucket: str, key: str) -> None:
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
    assert s3.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"].read() == BODY
    assert s3.get_object(Bucket=bucket, Key=key, IfMatch=f'"x", {etag}')["Body"].read() == BODY
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key=key, IfMatch='"other"')


def test_if_none_match_on_get_is_304_with_etag_and_no_body(raw: Raw, bucket: str, key: str) -> None:
    etag = raw("HEAD", f"/{bucket}/{key}").headers["etag"]
    for method in ("GET", "HEAD"):
        answer = raw(method, f"/{bucket}/{key}", headers={"If-None-Match": etag})
        assert (answer.status, answer.headers["etag"], answer.body) == (304, etag, b"")


def test_modified_dates_on_get(s3: S3Client, bucket: str, key: str) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=2)
    s3.get_object(Bucket=bucket, Key=key, IfModifiedSince=PAST)
    with refused("304", 304):
        s3.get_object(
            Bucket=bucket,
            Key=key,
            IfModifiedSince=s3.head_object(Bucket=bucket, Key=key)["LastModified"],
        )
    s3.get_object(Bucket=bucket, Key=key, IfUnmodifiedSince=ahead)
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key=key, IfUnmodifiedSince=PAST)


def test_true_if_match_wins_over_false_if_unmodified_since(
    s3: S3Client, bucket: str, key: str
) -> None:
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
    s3.get_object(Bucket=bucket, Key=key, IfMatch=etag, IfUnmodifiedSince=PAST)


def test_false_if_none_match_wins_over_true_if_modified_since(
    s3: S3Client, bucket: str, key: str
) -> None:
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key=key, IfNoneMatch=etag, IfModifiedSince=PAST)


def test_put_if_none_match_rejects_existing_key(s3: S3Client, bucket: str, key: str) -> None:
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key=key, Body=b"new", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY
    s3.put_object(Bucket=bucket, Key="fresh", Body=b"new", IfNoneMatch="*")


def test_put_if_none_match_counts_a_delete_marker_as_absent(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    s3.delete_object(Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfNoneMatch="*")


def test_put_if_none_match_takes_only_a_star(raw: Raw, bucket: str, key: str) -> None:
    answer = raw("PUT", f"/{bucket}/{key}", b"x", {"If-None-Match": '"abc"'})
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_put_if_match_replaces_only_the_named_etag(s3: S3Client, bucket: str, key: str) -> None:
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key=key, Body=b"new", IfMatch='"other"')
    s3.put_object(Bucket=bucket, Key=key, Body=b"new", IfMatch=etag)
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="missing", Body=b"new", IfMatch=etag)


def test_delete_if_match_removes_only_the_named_etag(s3: S3Client, bucket: str, key: str) -> None:
    etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key=key, IfMatch='"other"')
    s3.delete_object(Bucket=bucket, Key=key, IfMatch=etag)
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key=key)
