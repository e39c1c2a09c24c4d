"""aws-chunked bodies on the wire: signed, signed with trailer, unsigned with trailer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib

import pytest

from .raw import Answer, Raw
from .server import Server

EMPTY = hashlib.sha256(b"").hexdigest()
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = f"{SIGNED}-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BODY = bytes(range(256)) * 1000
PIECES = [BODY[:65536], BODY[65536:131072], BODY[131072:]]


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


class Sender:
    """Builds the body chunk by chunk with the signature chain, and can break each of its links."""

    def __init__(self, server: Server, bucket: str) -> None:
        self.raw = Raw(server, server.root)
        self.server = server
        self.target = f"/{bucket}/k"

    def send(
        self,
        mode: str,
        *,
        trailer: str | None = None,
        decoded_length: int = len(BODY),
        break_chunk: int = -1,
        cut: int = 0,
        line_end: bytes = b"\r\n",
    ) -> Answer:
        headers = {
            "x-amz-content-sha256": mode,
            "x-amz-decoded-content-length": str(decoded_length),
            "Content-Encoding": "aws-chunked",
        }
        if trailer is not None:
            headers["x-amz-trailer"] = "x-amz-checksum-crc32"
        # The length of the encoded body is signed; lengths do not depend on the signatures.
        size = len(self._encode(mode, trailer, "0" * 64, "", "", break_chunk, line_end)) - cut
        headers["Content-Length"] = str(size)
        sent = self.raw.signed_headers("PUT", self.target, b"", headers)
        seed = sent["Authorization"].rpartition("Signature=")[2]
        scope = sent["Authorization"].partition("Credential=")[2].partition(",")[0]
        scope = scope.partition("/")[2]
        body = self._encode(mode, trailer, seed, sent["X-Amz-Date"], scope, break_chunk, line_end)
        return Raw(self.server, None)("PUT", self.target, body[: len(body) - cut], sent)

    def _encode(
        self,
        mode: str,
        trailer: str | None,
        seed: str,
        date: str,
        scope: str,
        break_chunk: int,
        line_end: bytes,
    ) -> bytes:
        signed = mode.startswith(SIGNED)
        out, previous = [], seed
        for number, piece in enumerate([*PIECES, b""]):
            head = f"{len(piece):x}".encode()
            if signed:
                text = "\n".join(
                    (
                        "AWS4-HMAC-SHA256-PAYLOAD",
                        date,
                        scope,
                        previous,
                        EMPTY,
                        hashlib.sha256(piece).hexdigest(),
                    )
                )
                previous = self._sign(scope, text)
                shown = "f" * 64 if number == break_chunk else previous
                head += f";chunk-signature={shown}".encode()
            out.append(head + b"\r\n" + piece + (b"\r\n" if piece else b""))
        if trailer is not None:
            out.append(f"x-amz-checksum-crc32:{trailer}".encode() + line_end)
            if signed:
                digest = hashlib.sha256(f"x-amz-checksum-crc32:{trailer}\n".encode()).hexdigest()
                text = "\n".join(("AWS4-HMAC-SHA256-TRAILER", date, scope, previous, digest))
                signature = self._sign(scope, text)
                if break_chunk == len(PIECES) + 1:
                    signature = "f" * 64
                out.append(f"x-amz-trailer-signature:{signature}".encode() + line_end)
        out.append(b"\r\n")
        return b"".join(out)

    def _sign(self, scope: str, text: str) -> str:
        key = b"AWS4" + self.server.root.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.fixture
def sender(server: Server, bucket: str) -> Sender:
    return Sender(server, bucket)


def absent(raw: Raw, bucket: str) -> bool:
    return raw("HEAD", f"/{bucket}/k").status == 404


def test_signed_chunks_are_stored_decoded(sender: Sender, raw: Raw, bucket: str) -> None:
    assert sender.send(SIGNED).status == 200
    answer = raw("GET", f"/{bucket}/k")
    assert answer.body == BODY
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_trailing_checksum_is_verified_and_stored(
    sender: Sender, raw: Raw, bucket: str, mode: str, line_end: bytes
) -> None:
    answer = sender.send(mode, trailer=crc32(BODY), line_end=line_end)
    assert answer.status == 200
    assert answer.headers["x-amz-checksum-crc32"] == crc32(BODY)
    assert raw("GET", f"/{bucket}/k").body == BODY


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_wrong_trailing_checksum_stores_nothing(
    sender: Sender, raw: Raw, bucket: str, mode: str
) -> None:
    answer = sender.send(mode, trailer=crc32(b"other"))
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert absent(raw, bucket)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_wrong_chunk_signature_stores_nothing(
    sender: Sender, raw: Raw, bucket: str, number: int
) -> None:
    answer = sender.send(SIGNED, break_chunk=number)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert absent(raw, bucket)


def test_wrong_trailer_signature_stores_nothing(sender: Sender, raw: Raw, bucket: str) -> None:
    answer = sender.send(SIGNED_TRAILER, trailer=crc32(BODY), break_chunk=len(PIECES) + 1)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert absent(raw, bucket)


@pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1, 0])
def test_wrong_decoded_length_stores_nothing(
    sender: Sender, raw: Raw, bucket: str, length: int
) -> None:
    answer = sender.send(SIGNED, decoded_length=length)
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert absent(raw, bucket)


@pytest.mark.parametrize("cut", [1000, 100])
def test_missing_last_chunk_stores_nothing(sender: Sender, raw: Raw, bucket: str, cut: int) -> None:
    answer = sender.send(SIGNED, cut=cut)
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert absent(raw, bucket)


def test_announced_trailer_that_does_not_come_is_malformed(
    server: Server, raw: Raw, bucket: str
) -> None:
    body = b"3\r\nabc\r\n0\r\n\r\n"
    headers = {
        "x-amz-content-sha256": UNSIGNED_TRAILER,
        "x-amz-decoded-content-length": "3",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    answer = raw("PUT", f"/{bucket}/k", body, headers)
    assert (answer.status, answer.code) == (400, "MalformedTrailerError")
    assert absent(raw, bucket)


def test_decoded_length_is_needed(raw: Raw, bucket: str) -> None:
    answer = raw("PUT", f"/{bucket}/k", b"0\r\n\r\n", {"x-amz-content-sha256": UNSIGNED_TRAILER})
    assert (answer.status, answer.code) == (411, "MissingContentLength")
