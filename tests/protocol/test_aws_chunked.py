"""aws-chunked bodies: AWS's published values, cutting, truncation, tampering."""

from __future__ import annotations

import calendar
import contextlib
import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, CrtCrc32cChecksum
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol.aws_chunked import AwsChunkedDecoder, ChunkSigning
from objectstore_app.protocol.checksums import Algorithm, checksum_of
from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.sigv4 import signing_key
from objectstore_app.protocol.sigv4_signer import sign_request
from tests.protocol.feeding import ways

SCOPE = "20130524/us-east-1/s3/aws4_request"
SIGNING_KEY = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
BODY = b"a" * 66560

# The published examples: 64 KiB and 1 KiB of "a".
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
SIGNED = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature="
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a"
    * 1024
    + b"\r\n0;chunk-signature="
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
SIGNED_TRAILER = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature="
    b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
    + b"a"
    * 1024
    + b"\r\n0;chunk-signature="
    b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n"
    b"x-amz-trailer-signature:"
    b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)
CRC32C = "x-amz-checksum-crc32c"
UNSIGNED = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32c:mnG7TA==\r\n\r\n"


def signed(*, trailer: bool = False) -> AwsChunkedDecoder:
    seed = TRAILER_SEED if trailer else SEED
    return AwsChunkedDecoder(
        len(BODY),
        signing=ChunkSigning(SIGNING_KEY, "20130524T000000Z", SCOPE, seed),
        trailers=frozenset({CRC32C}) if trailer else None,
    )


def unsigned(length: int = 5) -> AwsChunkedDecoder:
    return AwsChunkedDecoder(length, trailers=frozenset({CRC32C}))


def decode(decoder: AwsChunkedDecoder, pieces: list[bytes]) -> tuple[bytes, dict[str, str]]:
    body = b"".join(part for piece in pieces for part in decoder.feed(piece))
    return body, decoder.finish()


def refused(decoder: AwsChunkedDecoder, *pieces: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        decode(decoder, list(pieces))
    return caught.value.code


def pieces_of(data: bytes) -> list[list[bytes]]:
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i : i + 4096] for i in range(0, len(data), 4096)],
    ]


@pytest.mark.parametrize(
    ("mode", "extra", "seed"),
    [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", {"Content-Length": "66824"}, SEED),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", {"x-amz-trailer": CRC32C}, TRAILER_SEED),
    ],
)
def test_published_seed_signatures(mode: str, extra: dict[str, str], seed: str) -> None:
    headers = sign_request(
        "PUT",
        "/examplebucket/chunkObject.txt",
        {
            "Host": "s3.amazonaws.com",
            "Content-Encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            **extra,
        },
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        now=calendar.timegm((2013, 5, 24, 0, 0, 0)),
        payload_hash=mode,
    )
    assert headers["authorization"].endswith(seed)


def test_published_signed_body() -> None:
    for pieces in pieces_of(SIGNED):
        assert decode(signed(), pieces) == (BODY, {})


def test_published_signed_trailer() -> None:
    for pieces in pieces_of(SIGNED_TRAILER):
        assert decode(signed(trailer=True), pieces) == (BODY, {CRC32C: "sOO8/Q=="})


def test_unsigned_trailer_however_it_arrives() -> None:
    for pieces in ways(UNSIGNED):
        assert decode(unsigned(), pieces) == (b"hello", {CRC32C: "mnG7TA=="})


@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=40_000), chunk=st.integers(8192, 20_000), cut=st.integers(1, 9000))
def test_bodies_of_botocore_decode(body: bytes, chunk: int, cut: int) -> None:
    encoded = AwsChunkedWrapper(
        io.BytesIO(body), CrtCrc32cChecksum, checksum_name=CRC32C, chunk_size=chunk
    ).read()
    pieces = [encoded[i : i + cut] for i in range(0, len(encoded), cut)]
    expected = (body, {CRC32C: checksum_of(Algorithm.CRC32C, body)})
    assert decode(unsigned(len(body)), pieces) == expected


@pytest.mark.parametrize(
    "end",
    [
        b"x-amz-checksum-crc32c:mnG7TA==\r\n\r\n",
        b"x-amz-checksum-crc32c:mnG7TA==\n\r\n\r\n",
        b"x-amz-checksum-crc32c:mnG7TA==\n",
        b"x-amz-checksum-crc32c:mnG7TA==",
        b"X-Amz-Checksum-CRC32C : mnG7TA== \r\n",
        b"x-amz-checksum-crc32c:mnG7TA==\r\nx-amz-trailer-signature:ab\r\n\r\n",
    ],
)
def test_trailer_line_ends_are_tolerated(end: bytes) -> None:
    assert decode(unsigned(), [b"5\r\nhello\r\n0\r\n" + end])[1] == {CRC32C: "mnG7TA=="}


@pytest.mark.parametrize(
    "end",
    [
        b"\r\n",
        b"",
        b"x-amz-checksum-crc32:mnG7TA==\r\n\r\n",
        b"x-amz-checksum-crc32c:mnG7TA==\r\nx-amz-checksum-crc32c:mnG7TA==\r\n",
        b"x-amz-checksum-crc32c:mnG7TA==\r\nx-other:a\r\n",
        b"x-amz-checksum-crc32c\r\n",
        b"x-amz-checksum-crc32c:\r\n",
        b"x-amz-checksum-crc32c:a\x00b\r\n",
        b"a" * 10_000,
    ],
)
def test_bad_trailers_are_refused(end: bytes) -> None:
    assert refused(unsigned(), b"5\r\nhello\r\n0\r\n" + end) == "MalformedTrailerError"


def test_trailer_where_none_was_announced_is_refused() -> None:
    assert refused(AwsChunkedDecoder(0), b"0\r\na:b\r\n\r\n") == "MalformedTrailerError"


@pytest.mark.parametrize("trailer", [False, True])
def test_every_truncation_is_noticed(trailer: bool) -> None:
    data = SIGNED_TRAILER if trailer else SIGNED
    needed = data.rindex(b"\r\n\r\n")
    for length in (0, 1, 40, 90, 5000, 65630, 65700, len(data) - 400, needed - 1):
        code = refused(signed(trailer=trailer), data[:length])
        assert code in ("IncompleteBody", "MalformedTrailerError", "SignatureDoesNotMatch")
    for length in range(UNSIGNED.index(b":")):
        assert refused(unsigned(), UNSIGNED[:length]) in ("IncompleteBody", "MalformedTrailerError")


@pytest.mark.parametrize("offset", [25, 100, 65700, len(SIGNED) - 20])
def test_tampering_breaks_the_signature_chain(offset: int) -> None:
    data = bytearray(SIGNED)
    data[offset] = ord("b") if data[offset] != ord("b") else ord("c")
    assert refused(signed(), bytes(data)) == "SignatureDoesNotMatch"


def test_tampered_or_unsigned_trailer_is_refused() -> None:
    decoder = signed(trailer=True)
    assert refused(decoder, SIGNED_TRAILER.replace(b"sOO8", b"sOO9")) == "SignatureDoesNotMatch"
    cut = SIGNED_TRAILER[: SIGNED_TRAILER.index(b"x-amz-trailer-signature")]
    assert refused(signed(trailer=True), cut) == "MalformedTrailerError"


def test_chunks_without_signature_are_refused_where_signed() -> None:
    assert refused(signed(), b"10000\r\n" + b"a" * 65536) == "IncompleteBody"


@pytest.mark.parametrize(
    "data",
    [
        b"6\r\nhello!\r\n0\r\n\r\n",
        b"4\r\nhell\r\n0\r\n\r\n",
        b"ffffffffffffff\r\n",
        b"-5\r\nhello",
        b"5 \x00\r\nhello",
        b"5\r\nhelloX\r\n",
        b"zz\r\n",
        b"5;" + b"x" * 9000,
    ],
)
def test_bad_framing_and_wrong_length_are_refused(data: bytes) -> None:
    assert refused(unsigned(), data) == "IncompleteBody"


def test_only_the_last_chunk_may_be_small() -> None:
    data = b"2\r\nab\r\n2\r\ncd\r\n0\r\n"
    assert refused(unsigned(4), data) == "InvalidChunkSizeError"
    large = b"2000\r\n" + b"x" * 8192 + b"\r\n1\r\ny\r\n0\r\nx-amz-checksum-crc32c:a\r\n"
    assert decode(unsigned(8193), [large])[0] == b"x" * 8192 + b"y"


def test_pieces_inside_a_chunk_are_not_copied() -> None:
    decoder = unsigned(1 << 20)
    decoder.feed(b"100000\r\n")
    piece = b"x" * 65536
    assert decoder.feed(piece)[0] is piece


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_no_bytes_crash_the_decoder(data: bytes, cut: int) -> None:
    for decoder, prefix in (
        (unsigned(), b""),
        (unsigned(), b"5\r\nhello\r\n0\r\n"),
        (signed(), b""),
    ):
        with contextlib.suppress(S3Error):
            decode(decoder, [prefix, data[:cut], data[cut:]])
