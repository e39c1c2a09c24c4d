"""Large bodies: whole round trip, bounded memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from tests.resident import resident_tree

from .raw import Raw
from .server import Server

SIZE = 64 * 2**20
GROWTH_BYTES_MAX = 48 * 2**20


@pytest.fixture(scope="module")
def content() -> bytes:
    block = hashlib.shake_256(b"large").digest(2**20)
    return b"".join(bytes([number]) + block[1:] for number in range(SIZE // 2**20))


def test_64_mib_comes_back_byte_for_byte_in_bounded_memory(
    server: Server, s3: S3Client, bucket: str, content: bytes
) -> None:
    before = resident_tree(server.pid) if server.pid else 0
    s3.put_object(Bucket=bucket, Key="k", Body=content)
    got = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
    if server.pid:
        assert resident_tree(server.pid) - before < GROWTH_BYTES_MAX


def test_large_transfer_by_the_sdk_uses_parts(
    s3: S3Client, bucket: str, content: bytes, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(content[: 20 * 2**20])
    s3.upload_file(str(source), bucket, "k")
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"].endswith('-3"')
    s3.download_file(bucket, "k", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_wrong_digest_at_the_end_of_a_large_body_stores_nothing(
    raw: Raw, bucket: str, content: bytes
) -> None:
    answer = raw(
        "PUT",
        f"/{bucket}/k",
        content[: 10 * 2**20],
        {
            "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA==",
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        },
    )
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert raw("HEAD", f"/{bucket}/k").status == 404
