"""Multipart uploads."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .raw import Raw

MIB5 = 5 * 2**20


def begin(s3: S3Client, bucket: str, key: str = "k", **arguments: object) -> str:
    created = s3.create_multipart_upload(Bucket=bucket, Key=key, **arguments)
    return created["UploadId"]


def put_part(s3: S3Client, bucket: str, upload: str, number: int, body: bytes) -> dict[str, object]:
    answer = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def finish(s3: S3Client, bucket: str, upload: str, parts: list[dict[str, object]]) -> str:
    answer = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": parts},
    )
    return answer["ETag"]


def test_parts_become_one_object_with_the_etag_of_their_etags(s3: S3Client, bucket: str) -> None:
    bodies = [b"a" * MIB5, b"b" * MIB5, b"tail"]
    upload = begin(s3, bucket, Metadata={"m": "1"}, ContentType="text/x")
    parts = [put_part(s3, bucket, upload, n, body) for n, body in enumerate(bodies, 1)]
    etag = finish(s3, bucket, upload, parts)
    md5s = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert etag == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(bodies)
    assert (got["ETag"], got["Metadata"], got["ContentType"]) == (etag, {"m": "1"}, "text/x")
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["Body"].read() == bodies[1]
    assert (second["PartsCount"], second["ContentLength"]) == (3, MIB5)
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=3)["ContentLength"] == 4
    with refused("416", 416):
        s3.head_object(Bucket=bucket, Key="k", PartNumber=4)


def test_parts_may_skip_numbers_and_come_in_any_order(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    last = put_part(s3, bucket, upload, 9000, b"last")
    first = put_part(s3, bucket, upload, 7, b"f" * MIB5)
    finish(s3, bucket, upload, [first, last])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"f" * MIB5 + b"last"


def test_a_part_uploaded_again_replaces_the_first(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    old = put_part(s3, bucket, upload, 1, b"old")
    new = put_part(s3, bucket, upload, 1, b"new")
    with refused("InvalidPart", 400):
        finish(s3, bucket, upload, [old])
    finish(s3, bucket, upload, [new])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_object_is_not_there_before_completion(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    put_part(s3, bucket, upload, 1, b"x")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_completion_refuses_what_does_not_fit(s3: S3Client, raw: Raw, bucket: str) -> None:
    upload = begin(s3, bucket)
    one = put_part(s3, bucket, upload, 1, b"small")
    two = put_part(s3, bucket, upload, 2, b"small")
    with refused("EntityTooSmall", 400):
        finish(s3, bucket, upload, [one, two])
    with refused("InvalidPartOrder", 400):
        finish(s3, bucket, upload, [two, one])
    with refused("InvalidPart", 400):
        finish(s3, bucket, upload, [{"PartNumber": 3, "ETag": one["ETag"]}])
    with refused("MalformedXML", 400):
        finish(s3, bucket, upload, [])
    with refused("NoSuchUpload", 404):
        finish(s3, bucket, "nonsense", [one])
    broken = raw("POST", f"/{bucket}/k?uploadId={upload}", b"<CompleteMultipartUpload>")
    assert (broken.status, broken.code) == (400, "MalformedXML")
    finish(s3, bucket, upload, [one])


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_are_1_to_10000(s3: S3Client, bucket: str, number: int) -> None:
    upload = begin(s3, bucket)
    with refused("InvalidArgument", 400):
        put_part(s3, bucket, upload, number, b"x")


def test_completion_repeated_is_answered_alike(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, b"x")
    assert finish(s3, bucket, upload, [part]) == finish(s3, bucket, upload, [part])


def test_aborted_upload_is_gone(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, b"x")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload", 404):
        finish(s3, bucket, upload, [part])
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"")
    with refused("NoSuchUpload", 404):
        s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


def test_list_parts_pages(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    for number in (1, 2, 5):
        put_part(s3, bucket, upload, number, str(number).encode())
    first = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=2)
    assert [part["PartNumber"] for part in first["Parts"]] == [1, 2]
    assert (first["IsTruncated"], first["NextPartNumberMarker"]) == (True, 2)
    rest = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, PartNumberMarker=2)
    assert [part["PartNumber"] for part in rest["Parts"]] == [5]
    assert rest["IsTruncated"] is False
    assert rest["Parts"][0]["Size"] == 1


def test_list_uploads_pages_and_groups(s3: S3Client, bucket: str) -> None:
    begun = [(key, begin(s3, bucket, key)) for key in ("a", "a", "b/1", "b/2", "c")]
    seen: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2, **markers)
        seen += [(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", [])]
        if not page["IsTruncated"]:
            break
        markers = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }
    assert sorted(seen) == sorted(begun)
    grouped = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in grouped["CommonPrefixes"]] == ["b/"]
    assert [upload["Key"] for upload in grouped["Uploads"]] == ["a", "a", "c"]


def test_completion_honours_if_none_match(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, b"x")
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            MultipartUpload={"Parts": [part]},
            IfNoneMatch="*",
        )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"there"


def test_upload_part_copy_takes_whole_objects_and_ranges(s3: S3Client, bucket: str) -> None:
    source = bytes(range(256)) * 24_000
    s3.put_object(Bucket=bucket, Key="source", Body=source)
    upload = begin(s3, bucket)
    copied = []
    for number, asked in ((1, f"bytes=0-{MIB5 - 1}"), (2, "bytes=100-199")):
        answer = s3.upload_part_copy(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": "source"},
            CopySourceRange=asked,
        )
        copied.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    finish(s3, bucket, upload, copied)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == source[:MIB5] + source[100:200]
    for wrong in ("bytes=0-99999999", "bytes=5-2", "0-5", "bytes=-5"):
        with refused("InvalidArgument", 400):
            s3.upload_part_copy(
                Bucket=bucket,
                Key="k",
                UploadId=begin(s3, bucket),
                PartNumber=1,
                CopySource={"Bucket": bucket, "Key": "source"},
                CopySourceRange=wrong,
            )


def test_composite_checksum_is_the_digest_of_the_parts_digests(s3: S3Client, bucket: str) -> None:
    bodies = [b"a" * MIB5, b"tail"]
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
        )
        parts.append(
            {
                "PartNumber": number,
                "ETag": answer["ETag"],
                "ChecksumSHA256": answer["ChecksumSHA256"],
            }
        )
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    assert [part["ChecksumSHA256"] for part in listed["Parts"]] == [
        part["ChecksumSHA256"] for part in parts
    ]
    done = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": parts},
    )
    digests = b"".join(hashlib.sha256(body).digest() for body in bodies)
    expected = base64.b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (expected, "COMPOSITE")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (expected, "COMPOSITE")
    told = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectParts"]
    )
    assert told["ObjectParts"]["TotalPartsCount"] == 2
    assert [part["Size"] for part in told["ObjectParts"]["Parts"]] == [MIB5, 4]
    page = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1
    )["ObjectParts"]
    assert ([part["PartNumber"] for part in page["Parts"]], page["IsTruncated"]) == ([1], True)
    again = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": parts},
    )
    assert again["ChecksumSHA256"] == expected


def test_full_object_crc_is_combined_from_the_parts(s3: S3Client, bucket: str) -> None:
    bodies = [b"a" * MIB5, b"tail"]
    upload = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    parts = [put_part(s3, bucket, upload, n, body) for n, body in enumerate(bodies, 1)]
    crc = zlib.crc32(b"".join(bodies)).to_bytes(4, "big")
    expected = base64.b64encode(crc).decode()
    with refused("BadDigest", 400):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            ChecksumCRC32="AAAAAA==",
        )
    done = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": parts},
        ChecksumCRC32=expected,
    )
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (expected, "FULL_OBJECT")


def test_wrong_object_size_at_completion_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    part = put_part(s3, bucket, upload, 1, b"12345")
    with refused("InvalidRequest", 400):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            MultipartUpload={"Parts": [part]},
            MpuObjectSize=6,
        )


def test_bucket_with_only_an_upload_under_way_can_be_deleted(s3: S3Client, bucket: str) -> None:
    begin(s3, bucket)
    s3.delete_bucket(Bucket=bucket)


def test_multipart_in_a_versioned_bucket_makes_one_version(s3: S3Client, versioned: str) -> None:
    upload = begin(s3, versioned)
    part = put_part(s3, versioned, upload, 1, b"x")
    done = s3.complete_multipart_upload(
        Bucket=versioned,
        Key="k",
        UploadId=upload,
        MultipartUpload={"Parts": [part]},
    )
    page = s3.list_object_versions(Bucket=versioned)
    assert [entry["VersionId"] for entry in page["Versions"]] == [done["VersionId"]]
