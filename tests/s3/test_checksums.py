"""Content-MD5, the five checksums in headers and trailers, and what is returned of them."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums as crt
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import make_client
from .raw import Raw
from .server import Server

BODY = b"hello checksum" * 100


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


VALUES = {
    "CRC32": b64(zlib.crc32(BODY).to_bytes(4, "big")),
    "CRC32C": b64(crt.crc32c(BODY).to_bytes(4, "big")),
    "CRC64NVME": b64(crt.crc64nvme(BODY).to_bytes(8, "big")),
    "SHA1": b64(hashlib.sha1(BODY).digest()),
    "SHA256": b64(hashlib.sha256(BODY).digest()),
}
WRONG = {
    "CRC32": b64(bytes(4)),
    "CRC32C": b64(bytes(4)),
    "CRC64NVME": b64(bytes(8)),
    "SHA1": b64(bytes(20)),
    "SHA256": b64(bytes(32)),
}
ALGORITHMS = sorted(VALUES)


def absent(raw: Raw, bucket: str) -> bool:
    return raw("HEAD", f"/{bucket}/k").status == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_header_is_verified_stored_and_returned(
    raw: Raw, s3: S3Client, bucket: str, algorithm: str
) -> None:
    name = f"x-amz-checksum-{algorithm.lower()}"
    put = raw("PUT", f"/{bucket}/k", BODY, {name: VALUES[algorithm]})
    assert (put.status, put.headers[name]) == (200, VALUES[algorithm])
    for method in ("GET", "HEAD"):
        answer = raw(method, f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
        assert answer.headers[name] == VALUES[algorithm]
        assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
        assert name not in raw(method, f"/{bucket}/k").headers


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_wrong_checksum_header_stores_nothing(raw: Raw, bucket: str, algorithm: str) -> None:
    name = f"x-amz-checksum-{algorithm.lower()}"
    answer = raw("PUT", f"/{bucket}/k", BODY, {name: WRONG[algorithm]})
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert absent(raw, bucket)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [10, 200_000, 5_000_000])
def test_sdk_computes_and_validates_each_algorithm(
    s3: S3Client, bucket: str, algorithm: str, size: int
) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def test_without_a_checksum_crc64nvme_is_stored(raw: Raw, bucket: str) -> None:
    raw("PUT", f"/{bucket}/k", BODY)
    answer = raw("HEAD", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert answer.headers["x-amz-checksum-crc64nvme"] == VALUES["CRC64NVME"]


def test_checksum_is_not_returned_for_ranges(raw: Raw, bucket: str) -> None:
    raw("PUT", f"/{bucket}/k", BODY)
    headers = {"x-amz-checksum-mode": "ENABLED", "Range": "bytes=0-3"}
    answer = raw("GET", f"/{bucket}/k", headers=headers)
    assert answer.status == 206
    assert not [name for name in answer.headers if name.startswith("x-amz-checksum")]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": VALUES["CRC32"], "x-amz-checksum-sha1": VALUES["SHA1"]},
        {"x-amz-checksum-crc32": "short"},
        {"x-amz-checksum-crc32": VALUES["SHA1"]},
        {"x-amz-checksum-md5": "AAAA"},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-sdk-checksum-algorithm": "XXHASH", "x-amz-checksum-crc32": VALUES["CRC32"]},
    ],
)
def test_contradicting_or_malformed_checksum_headers_are_invalid(
    raw: Raw, bucket: str, headers: dict[str, str]
) -> None:
    answer = raw("PUT", f"/{bucket}/k", BODY, headers)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert absent(raw, bucket)


def test_content_md5_is_verified(raw: Raw, bucket: str) -> None:
    wrong = raw("PUT", f"/{bucket}/k", BODY, {"Content-MD5": b64(bytes(16))})
    assert (wrong.status, wrong.code) == (400, "BadDigest")
    for malformed in ("x", b64(bytes(15)), "!!!!"):
        answer = raw("PUT", f"/{bucket}/k", BODY, {"Content-MD5": malformed})
        assert (answer.status, answer.code) == (400, "InvalidDigest")
    assert absent(raw, bucket)
    right = raw("PUT", f"/{bucket}/k", BODY, {"Content-MD5": b64(hashlib.md5(BODY).digest())})
    assert right.status == 200


def test_wrong_payload_hash_stores_nothing(raw: Raw, bucket: str) -> None:
    headers = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
    for body in (BODY, bytes(3_000_000)):
        answer = raw("PUT", f"/{bucket}/k", body, headers)
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert absent(raw, bucket)


def test_sdk_without_checksums_works_too(server: Server, bucket: str) -> None:
    plain = make_client(
        server,
        server.root,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    plain.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


def test_upload_part_refuses_another_algorithm_than_the_uploads(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")
    with refused("InvalidRequest", 400):
        s3.upload_part(
            Bucket=bucket,
            Key="k",
            UploadId=upload["UploadId"],
            PartNumber=1,
            Body=b"x",
            ChecksumAlgorithm="CRC32",
        )
