"""Checksums: values, combination, and the headers that carry them."""

from __future__ import annotations

import zlib
from base64 import b64encode
from hashlib import md5, sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol.checksums import (
    Algorithm,
    Expected,
    checksum_of,
    composite,
    encode,
    full_object,
    mismatch,
    new_hasher,
    parse_content_md5,
    parse_expected,
    parse_multipart,
    trailer_value,
)
from objectstore_app.protocol.errors import S3Error

# The check values of the CRC catalogue (reveng) and FIPS 180 for "123456789".
CHECKS = {
    Algorithm.CRC32: (0xCBF43926).to_bytes(4, "big"),
    Algorithm.CRC32C: (0xE3069283).to_bytes(4, "big"),
    Algorithm.CRC64NVME: (0xAE8B14860A799888).to_bytes(8, "big"),
    Algorithm.SHA1: bytes.fromhex("f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
    Algorithm.SHA256: sha256(b"123456789").digest(),
}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_known_values_in_one_piece_and_in_several(algorithm: Algorithm) -> None:
    expected = encode(CHECKS[algorithm])
    assert checksum_of(algorithm, b"123456789") == expected
    hasher = new_hasher(algorithm)
    for piece in (b"1", bytearray(b"234"), memoryview(b"0567890")[1:5], b"", b"9"):
        hasher.update(piece)
    assert hasher.digest() == CHECKS[algorithm]
    assert len(hasher.digest()) == algorithm.digest_bytes


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_crcs_of_parts_combine_to_that_of_the_object(parts: list[bytes]) -> None:
    for algorithm in Algorithm:
        if algorithm.is_crc:
            pairs = [(checksum_of(algorithm, part), len(part)) for part in parts]
            assert full_object(algorithm, pairs) == checksum_of(algorithm, b"".join(parts))


def test_composite_checksum() -> None:
    parts = [b"a" * 10, b"b"]
    digest = sha256(sha256(parts[0]).digest() + sha256(parts[1]).digest()).digest()
    values = [checksum_of(Algorithm.SHA256, part) for part in parts]
    assert composite(Algorithm.SHA256, values) == b64encode(digest).decode() + "-2"


def headers(**fields: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]


CRC = encode(zlib.crc32(b"x").to_bytes(4, "big"))


def test_expected_checksum_of_header_and_trailer() -> None:
    assert parse_expected(headers(content_type="a", x_amz_acl="b")) is None
    assert parse_expected(headers(x_amz_checksum_crc32=CRC)) == Expected(Algorithm.CRC32, CRC)
    announced = parse_expected(
        headers(x_amz_trailer="X-Amz-Checksum-CRC32", x_amz_sdk_checksum_algorithm="crc32")
    )
    assert announced == Expected(Algorithm.CRC32, "")
    assert announced.in_trailer
    assert trailer_value(announced, {"x-amz-checksum-crc32": CRC}) == CRC
    only_kinds = headers(
        x_amz_checksum_mode="ENABLED",
        x_amz_checksum_type="FULL_OBJECT",
        x_amz_checksum_algorithm="CRC32",
    )
    assert parse_expected(only_kinds) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"x_amz_checksum_crc32": CRC, "x_amz_checksum_crc32c": CRC},
        {"x_amz_checksum_crc32": CRC, "x_amz_trailer": "x-amz-checksum-crc32"},
        {"x_amz_trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"},
        {"x_amz_trailer": "x-amz-meta-a"},
        {"x_amz_trailer": ""},
        {"x_amz_checksum_crc32": "AAAA"},
        {"x_amz_checksum_crc32": "!!!!!!=="},
        {"x_amz_checksum_crc32": ""},
        {"x_amz_checksum_xxhash64": "AAAAAAAAAAA="},
        {"x_amz_sdk_checksum_algorithm": "CRC32"},
        {"x_amz_sdk_checksum_algorithm": "MD4", "x_amz_checksum_crc32": CRC},
        {"x_amz_sdk_checksum_algorithm": "SHA1", "x_amz_checksum_crc32": CRC},
    ],
)
def test_bad_checksum_headers_are_invalid_requests(fields: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        parse_expected(headers(**fields))
    assert caught.value.code == "InvalidRequest"


def test_announced_trailer_must_come_well_formed() -> None:
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        trailer_value(Expected(Algorithm.CRC32, ""), {})
    with pytest.raises(S3Error, match="InvalidRequest"):
        trailer_value(Expected(Algorithm.CRC32, ""), {"x-amz-checksum-crc32": "AA=="})


@pytest.mark.parametrize(
    ("algorithm", "kind", "expected"),
    [
        (None, None, (None, "")),
        ("crc32", None, (Algorithm.CRC32, "COMPOSITE")),
        ("CRC32C", "FULL_OBJECT", (Algorithm.CRC32C, "FULL_OBJECT")),
        ("CRC64NVME", None, (Algorithm.CRC64NVME, "FULL_OBJECT")),
        ("SHA256", "composite", (Algorithm.SHA256, "COMPOSITE")),
    ],
)
def test_multipart_checksum_kinds(
    algorithm: str | None, kind: str | None, expected: tuple[Algorithm | None, str]
) -> None:
    assert parse_multipart(algorithm, kind) == expected


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("MD5", None),
        (None, "COMPOSITE"),
        ("SHA1", "FULL_OBJECT"),
        ("CRC64NVME", "COMPOSITE"),
        ("CRC32", "PARTIAL"),
    ],
)
def test_impossible_multipart_checksum_kinds(algorithm: str | None, kind: str | None) -> None:
    with pytest.raises(S3Error) as caught:
        parse_multipart(algorithm, kind)
    assert caught.value.code == "InvalidRequest"


def test_content_md5() -> None:
    digest = md5(b"x").digest()
    assert parse_content_md5(None) is None
    assert parse_content_md5(b64encode(digest)) == digest
    for bad in (b"", b"x", b"AAAA", digest.hex().encode(), b64encode(digest) + b"\xff"):
        with pytest.raises(S3Error) as caught:
            parse_content_md5(bad)
        assert caught.value.code == "InvalidDigest"


def test_mismatch_names_the_algorithm() -> None:
    assert mismatch(Algorithm.CRC64NVME).code == "BadDigest"
    assert "CRC64NVME" in mismatch(Algorithm.CRC64NVME).message
