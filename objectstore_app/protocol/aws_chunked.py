"""aws-chunked bodies without I/O: encoded bytes in, the object's bytes and its trailers out.

Theory of operation. The body is a run of chunks `SIZE[;chunk-signature=HEX]CRLF data CRLF`, ended
by one of size 0, then trailers `name:value`. `feed` returns the payload as slices of what it was
given, before the chunk's signature is known to hold: the caller must not let the object become
visible before `finish` has returned. Each signature covers the one before it, starting with the
request's. Clients end trailer lines with LF or CRLF, put empty lines between them and may leave
out the last line end; since nothing can follow them but the end of the HTTP body, all is taken to
the end and parsed there. Source: AWS, "Signature calculations for the Authorization header:
transferring payload in multiple chunks", and the page on trailing headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from hmac import compare_digest

from ..core.limits import AWS_CHUNK_BYTES_MIN, AWS_CHUNK_HEADER_BYTES_MAX
from .errors import S3Error
from .sigv4_core import EMPTY_SHA256, SigningKey

TRAILER_SIGNATURE = "x-amz-trailer-signature"

_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,13})(?:;chunk-signature=([0-9a-f]{64}))?[ \t]*")
_TRAILER_NAME = re.compile(rb"[A-Za-z0-9-]+")
_TRAILER_VALUE = re.compile(rb"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class ChunkSigning:
    """What chunk signatures are made of: from the request's verified claim and its signing key."""

    key: SigningKey
    timestamp: str
    scope: str
    seed: str


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class AwsChunkedDecoder:
    """Decodes one body.

    `decoded_length` is x-amz-decoded-content-length; `trailers` are the names that x-amz-trailer
    announced (lower-cased), None in the mode without trailers; `signing` is None in the unsigned
    mode.
    """

    def __init__(
        self,
        decoded_length: int,
        *,
        signing: ChunkSigning | None = None,
        trailers: frozenset[str] | None = None,
    ) -> None:
        self._left_total = decoded_length
        self._signing = signing
        self._announced = trailers
        self._state = _State.HEADER
        self._buffer = b""
        self._pos = 0
        self._left = 0
        self._chunk = 0
        self._chunk_size = AWS_CHUNK_BYTES_MIN
        self._previous = signing.seed if signing else ""
        self._claimed = ""
        self._hash = sha256()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payload in these bytes, as slices in order.

        Raises: S3Error IncompleteBody (malformed, or not the promised length),
        SignatureDoesNotMatch, InvalidChunkSizeError, MalformedTrailerError.
        """
        if self._pos < len(self._buffer):
            data = self._buffer[self._pos :] + data
        self._buffer, self._pos = data, 0
        pieces: list[bytes] = []
        while self._pos < len(self._buffer):
            if self._state is _State.DATA:
                self._take_data(pieces)
            elif self._state is _State.HEADER:
                if not self._take_header():
                    break
            elif self._state is _State.DATA_END:
                if not self._take_data_end():
                    break
            else:
                if len(self._buffer) - self._pos > AWS_CHUNK_HEADER_BYTES_MAX:
                    raise S3Error("MalformedTrailerError", "The trailers are too long.")
                break
        return pieces

    def finish(self) -> dict[str, str]:
        """At the end of the HTTP body: check that all is there and return the trailers.

        Raises: S3Error IncompleteBody, MalformedTrailerError, SignatureDoesNotMatch.
        """
        if self._state is not _State.TRAILER or self._left_total:
            raise _incomplete()
        trailers = self._parse_trailers()
        claimed = trailers.pop(TRAILER_SIGNATURE, None)
        if set(trailers) != set(self._announced or ()):
            raise S3Error("MalformedTrailerError")
        if self._signing is not None and self._announced is not None:
            if claimed is None:
                raise S3Error("MalformedTrailerError", "The trailers are not signed.")
            text = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
            self._verify(
                self._signing,
                "AWS4-HMAC-SHA256-TRAILER",
                sha256(text.encode("latin-1")).hexdigest(),
                claimed,
            )
        return trailers

    def _take_header(self) -> bool:
        start = self._pos
        end = self._buffer.find(b"\n", start, start + AWS_CHUNK_HEADER_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - start >= AWS_CHUNK_HEADER_BYTES_MAX:
                raise _incomplete()
            return False
        match = _CHUNK_HEADER.fullmatch(self._buffer[start:end].removesuffix(b"\r"))
        if match is None:
            raise _incomplete()
        self._pos = end + 1
        size, signature = int(match.group(1), 16), match.group(2)
        if self._signing is not None:
            if signature is None:
                raise _incomplete()
            self._claimed = signature.decode()
            self._hash = sha256()
        if size == 0:
            self._check_chunk()
            self._state = _State.TRAILER
            return True
        if size > self._left_total:
            raise _incomplete()
        if self._chunk_size < AWS_CHUNK_BYTES_MIN:
            raise S3Error("InvalidChunkSizeError", Chunk=self._chunk, BadChunkSize=self._chunk_size)
        self._chunk += 1
        self._chunk_size = self._left = size
        self._left_total -= size
        self._state = _State.DATA
        return True

    def _take_data(self, pieces: list[bytes]) -> None:
        piece = self._buffer[self._pos : self._pos + self._left]
        self._pos += len(piece)
        self._left -= len(piece)
        if self._signing is not None:
            self._hash.update(piece)
        pieces.append(piece)
        if self._left == 0:
            self._check_chunk()
            self._state = _State.DATA_END

    def _take_data_end(self) -> bool:
        end = self._buffer[self._pos : self._pos + 2]
        if not b"\r\n".startswith(end):
            raise _incomplete()
        if len(end) < 2:
            return False
        self._pos += 2
        self._state = _State.HEADER
        return True

    def _check_chunk(self) -> None:
        if self._signing is None:
            return
        self._verify(
            self._signing,
            "AWS4-HMAC-SHA256-PAYLOAD",
            f"{EMPTY_SHA256}\n{self._hash.hexdigest()}",
            self._claimed,
        )
        self._previous = self._claimed

    def _verify(self, signing: ChunkSigning, kind: str, digest: str, claimed: str) -> None:
        text = f"{kind}\n{signing.timestamp}\n{signing.scope}\n{self._previous}\n{digest}"
        if not compare_digest(signing.key.sign(text.encode()), claimed):
            raise S3Error("SignatureDoesNotMatch", StringToSign=text, SignatureProvided=claimed)

    def _parse_trailers(self) -> dict[str, str]:
        trailers: dict[str, str] = {}
        for line in self._buffer[self._pos :].split(b"\n"):
            line = line.removesuffix(b"\r")
            if not line:
                continue
            raw_name, _, raw_value = line.partition(b":")
            raw_name, raw_value = raw_name.rstrip(b" \t"), raw_value.strip(b" \t")
            name = raw_name.decode("latin-1").lower()
            if (
                name in trailers
                or _TRAILER_NAME.fullmatch(raw_name) is None
                or _TRAILER_VALUE.fullmatch(raw_value) is None
            ):
                raise S3Error("MalformedTrailerError")
            trailers[name] = raw_value.decode("ascii")
        return trailers


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "The request body terminated unexpectedly")
