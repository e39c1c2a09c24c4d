"""CopyObject."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import MakeBucket
from .raw import Raw

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def source(s3: S3Client, bucket: str) -> str:
    s3.put_object(
        Bucket=bucket,
        Key="source",
        Body=b"body",
        Metadata={"a": "1"},
        ContentType="text/x",
        CacheControl="no-cache",
    )
    return "source"


def test_copy_takes_bytes_and_metadata(s3: S3Client, bucket: str, source: str) -> None:
    answer = s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/{source}")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"body"
    assert (got["Metadata"], got["ContentType"]) == ({"a": "1"}, "text/x")
    assert got["CacheControl"] == "no-cache"
    assert answer["CopyObjectResult"]["ETag"] == got["ETag"]


def test_copy_with_replace_takes_only_the_bytes(s3: S3Client, bucket: str, source: str) -> None:
    s3.copy_object(
        Bucket=bucket,
        Key="k",
        CopySource={"Bucket": bucket, "Key": source},
        MetadataDirective="REPLACE",
        Metadata={"b": "2"},
    )
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"]) == (b"body", {"b": "2"})
    assert got["ContentType"] == "binary/octet-stream"


def test_copy_onto_itself_needs_a_change(s3: S3Client, bucket: str, source: str) -> None:
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key=source, CopySource=f"{bucket}/{source}")
    s3.copy_object(
        Bucket=bucket,
        Key=source,
        CopySource=f"{bucket}/{source}",
        MetadataDirective="REPLACE",
        Metadata={"c": "3"},
    )
    assert s3.head_object(Bucket=bucket, Key=source)["Metadata"] == {"c": "3"}


def test_copy_between_buckets_of_large_and_empty_bodies(
    s3: S3Client, bucket: str, make_bucket: MakeBucket
) -> None:
    other = make_bucket()
    for key, body in (("large", bytes(range(256)) * 40_000), ("empty", b"")):
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        s3.copy_object(Bucket=other, Key=key, CopySource={"Bucket": bucket, "Key": key})
        s3.delete_object(Bucket=bucket, Key=key)
        assert s3.get_object(Bucket=other, Key=key)["Body"].read() == body


@pytest.mark.parametrize("key", ["sp ace", "ünï", "a+b", "per%20cent", "q?x", "#frag"])
def test_copy_source_keys_are_percent_encoded(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"x"


def test_copy_source_may_start_with_a_slash(raw: Raw, bucket: str, source: str) -> None:
    answer = raw("PUT", f"/{bucket}/k", headers={"x-amz-copy-source": f"/{bucket}/{source}"})
    assert answer.status == 200
    assert b"<CopyObjectResult" in answer.body


def test_copy_of_missing_or_malformed_sources(s3: S3Client, raw: Raw, bucket: str) -> None:
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/none")
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=bucket, Key="k", CopySource="no-such-bucket-here/none")
    answer = raw("PUT", f"/{bucket}/k", headers={"x-amz-copy-source": "nonsense"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_copy_of_an_unreadable_source_is_denied(
    s3: S3Client, alt: S3Client, bucket: str, source: str
) -> None:
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    with refused("AccessDenied", 403):
        alt.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/{source}")


def test_copy_source_conditions(s3: S3Client, bucket: str, source: str) -> None:
    etag = s3.head_object(Bucket=bucket, Key=source)["ETag"]
    place = f"{bucket}/{source}"
    s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfMatch=etag)
    s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfModifiedSince=PAST)
    s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfUnmodifiedSince=FUTURE)
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfMatch='"other"')
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfNoneMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=place, CopySourceIfUnmodifiedSince=PAST)


def test_copy_honours_destination_conditions(
    s3: S3Client, raw: Raw, bucket: str, source: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    answer = raw(
        "PUT",
        f"/{bucket}/k",
        headers={"x-amz-copy-source": f"{bucket}/{source}", "If-None-Match": "*"},
    )
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"there"


def test_copy_computes_the_checksum_asked_for(s3: S3Client, bucket: str, source: str) -> None:
    answer = s3.copy_object(
        Bucket=bucket, Key="k", CopySource=f"{bucket}/{source}", ChecksumAlgorithm="SHA1"
    )
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer["CopyObjectResult"]["ChecksumSHA1"] == head["ChecksumSHA1"]


def test_copy_of_a_delete_marker(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="a", Body=b"x")
    marker = s3.delete_object(Bucket=versioned, Key="a")["VersionId"]
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=versioned, Key="k", CopySource=f"{versioned}/a")
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=versioned, Key="k", CopySource=f"{versioned}/a?versionId={marker}")


def test_acl_is_not_copied(s3: S3Client, anonymous: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="public", Body=b"x", ACL="public-read")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/public")
    with refused("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="k")
