"""Objects: put, get, head, delete, metadata, odd keys, DeleteObjects."""

from __future__ import annotations

import hashlib
import urllib.parse
from datetime import UTC, datetime, timedelta

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .raw import Raw

ODD_KEYS = [
    "a",
    "a/b",
    "trailing/",
    "/leading",
    "//double//slash",
    "../up/./and/..",
    "soap",
    "space and+plus",
    "percent%41",
    "quote\"'<&>",
    "ümlaut/日本語/🙂",
    "tab\tand\nnewline\rreturn",
    "q?x=1&y#z",
    "ctrl\x01\x1f",
    "~.-_!*'()",
    "k" * 1024,
]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 131072, 131073, 3_000_000])
def test_what_was_put_is_got(s3: S3Client, bucket: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert got["ContentLength"] == size
    assert datetime.now(UTC) - got["LastModified"] < timedelta(minutes=1)


def test_overwriting_replaces_body_and_metadata(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "1"}, ContentType="text/a")
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (
        b"new",
        {},
        "binary/octet-stream",
    )


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_are_opaque_bytes(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    listed = s3.list_objects_v2(Bucket=bucket, EncodingType="url")["Contents"]
    assert [urllib.parse.unquote(entry["Key"]) for entry in listed] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_system_headers_and_metadata_come_back(s3: S3Client, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket,
        Key="k",
        Body=b"x",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60",
        ContentDisposition='attachment; filename="a.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Expires=datetime(2030, 1, 1, tzinfo=UTC),
        Metadata={"Mixed-Case": "Value", "empty": ""},
    )
    for got in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert got["ContentType"] == "text/plain; charset=utf-8"
        assert got["CacheControl"] == "max-age=60"
        assert got["ContentDisposition"] == 'attachment; filename="a.txt"'
        assert got["ContentEncoding"] == "gzip"
        assert got["ContentLanguage"] == "de"
        assert got["ExpiresString"] == "Tue, 01 Jan 2030 00:00:00 GMT"
        assert got["Metadata"] == {"mixed-case": "Value", "empty": ""}
        assert got["ResponseMetadata"]["HTTPHeaders"]["accept-ranges"] == "bytes"


def test_expires_is_kept_verbatim(raw: Raw, bucket: str) -> None:
    raw("PUT", f"/{bucket}/k", b"x", {"Expires": "whenever"})
    assert raw("HEAD", f"/{bucket}/k").headers["expires"] == "whenever"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("aws-chunked,gzip", "gzip"),
        ("deflate, aws-chunked, gzip", "deflate, gzip"),
        ("deflate, gzip", "deflate, gzip"),
        ("aws-chunked", None),
    ],
)
def test_aws_chunked_is_not_part_of_the_stored_encoding(
    s3: S3Client, bucket: str, given: str, stored: str | None
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentEncoding=given)
    assert s3.head_object(Bucket=bucket, Key="k").get("ContentEncoding") == stored


def test_metadata_over_2_kib_is_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="fits", Body=b"", Metadata={"a": "x" * 2047})
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2048})
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def test_response_headers_can_be_overridden_when_signed(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="text/x",
        ResponseCacheControl="no-store",
        ResponseContentDisposition="inline",
        ResponseContentEncoding="br",
        ResponseContentLanguage="fr",
        ResponseExpires=datetime(2031, 1, 1, tzinfo=UTC),
    )
    assert (got["ContentType"], got["CacheControl"]) == ("text/x", "no-store")
    assert (got["ContentDisposition"], got["ContentEncoding"]) == ("inline", "br")
    assert got["ContentLanguage"] == "fr"


def test_response_headers_cannot_be_overridden_unsigned(
    s3: S3Client, raw_anonymous: Raw, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    answer = raw_anonymous("GET", f"/{bucket}/k?response-content-type=text/html")
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_missing_key_is_no_such_key_and_head_has_no_body(
    s3: S3Client, raw: Raw, bucket: str
) -> None:
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="none")
    answer = raw("HEAD", f"/{bucket}/none")
    assert (answer.status, answer.body) == (404, b"")


def test_error_document_names_resource_and_request(raw: Raw, bucket: str) -> None:
    answer = raw("GET", f"/{bucket}/none")
    assert answer.headers["content-type"] == "application/xml"
    assert f"<Resource>/{bucket}/none</Resource>".encode() in answer.body
    request_id = answer.headers["x-amz-request-id"]
    assert f"<RequestId>{request_id}</RequestId>".encode() in answer.body


def test_delete_is_204_for_present_and_missing_keys(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="k")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert "DeleteMarker" not in answer


def test_delete_objects_tells_each_key(s3: S3Client, bucket: str) -> None:
    for key in ("a", "b<&>", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "a"}, {"Key": "b<&>"}, {"Key": "missing"}, {"Key": "a"}]},
    )
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == ["a", "a", "b<&>", "missing"]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]


def test_delete_objects_quiet_tells_only_errors(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "a"}, {"Key": "b", "VersionId": "nonsense"}], "Quiet": True},
    )
    assert "Deleted" not in answer
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_delete_objects_decides_each_key_in_the_order_of_the_request(
    s3: S3Client, versioned: str
) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    second = s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    answer = s3.delete_objects(
        Bucket=versioned,
        Delete={
            "Objects": [
                {"Key": "k", "VersionId": first["VersionId"], "ETag": second["ETag"]},
                {"Key": "k", "ETag": first["ETag"]},
                {"Key": "k", "VersionId": second["VersionId"], "ETag": second["ETag"]},
                {"Key": "k", "ETag": first["ETag"]},
                {"Key": "k", "ETag": first["ETag"]},
                {"Key": "x" * 1025},
                {"Key": "k", "VersionId": "gone", "ETag": "*"},
            ]
        },
    )
    told = [(entry.get("VersionId"), entry.get("DeleteMarker")) for entry in answer["Deleted"]]
    assert told == [(second["VersionId"], None), (None, True)]
    assert [entry["Code"] for entry in answer["Errors"]] == [
        "PreconditionFailed", "PreconditionFailed", "NoSuchKey", "KeyTooLongError",
        "NoSuchVersion",
    ]  # fmt: skip


def test_delete_objects_takes_1000_keys(s3: S3Client, bucket: str) -> None:
    kept = [f"k{number:04d}" for number in range(0, 1000, 333)]
    for key in kept:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    keys = [f"k{number:04d}" for number in range(999)] + [kept[0]]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [entry["Key"] for entry in answer["Deleted"]] == keys
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == kept[3:]


def test_delete_objects_refuses_more_than_1000_keys(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="0", Body=b"x")
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1001)]})
    s3.head_object(Bucket=bucket, Key="0")


def test_delete_objects_needs_a_digest_of_its_body(s3: S3Client, raw: Raw, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    answer = raw("POST", f"/{bucket}?delete", body)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    wrong = raw("POST", f"/{bucket}?delete", body, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert (wrong.status, wrong.code) == (400, "BadDigest")
    s3.head_object(Bucket=bucket, Key="a")


def test_get_object_attributes_tells_what_was_asked(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "ObjectSize", "Checksum", "StorageClass"]
    )
    assert got["ObjectSize"] == 5
    assert got["ETag"] == hashlib.md5(b"hello").hexdigest()
    assert got["Checksum"]["ChecksumSHA256"]
    assert got["StorageClass"] == "STANDARD"


def test_objects_have_no_tags_and_that_can_be_asked(
    s3: S3Client, alt: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with refused("NoSuchKey", 404):
        s3.get_object_tagging(Bucket=bucket, Key="missing")
    with refused("AccessDenied", 403):
        alt.get_object_tagging(Bucket=bucket, Key="k")
    with refused("NotImplemented", 501):
        s3.put_object_tagging(
            Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
        )
