"""Request bodies: from HTTP's pieces to an object's bytes, and what the request says about them.

`open_payload` decides by x-amz-content-sha256 how the body is framed and protected, and checks all
that headers can tell (length, digests, trailers announced) before the first byte is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Mapping
from types import MappingProxyType

from ..core.limits import PUT_BYTES_MAX, XML_BYTES_MAX
from ..object_controller.integrity import Digests, Promise
from ..protocol import checksums
from ..protocol.aws_chunked import AwsChunkedDecoder, ChunkSigning
from ..protocol.errors import S3Error
from ..protocol.sigv4 import Claim, PayloadMode
from ..runtime.http import BodyReader
from .call import Call

_LENGTH = b"content-length"
_DECODED_LENGTH = b"x-amz-decoded-content-length"
_NO_TRAILERS: Mapping[str, str] = MappingProxyType({})


class PlainPayload:
    """A body that is the object's bytes."""

    __slots__ = ("_body", "length")

    trailers: Mapping[str, str] = _NO_TRAILERS

    def __init__(self, body: BodyReader, length: int) -> None:
        self._body = body
        self.length = length

    def read(self) -> Coroutine[object, None, bytes]:
        return self._body.read()


class ChunkedPayload:
    """An aws-chunked body; `trailers` are filled at its end, every signature verified by then."""

    __slots__ = ("_body", "_decoder", "_held", "_read", "length", "trailers")

    def __init__(self, body: BodyReader, length: int, decoder: AwsChunkedDecoder) -> None:
        self._body = body
        self._decoder = decoder
        self._held: deque[bytes] = deque()
        self._read = False
        self.length = length
        self.trailers: Mapping[str, str] = _NO_TRAILERS

    async def read(self) -> bytes:
        while not self._held:
            if self._read:
                return b""
            encoded = await self._body.read()
            if encoded:
                self._held.extend(self._decoder.feed(encoded))
            else:
                self._read = True
                self.trailers = self._decoder.finish()
        return self._held.popleft()


ObjectPayload = PlainPayload | ChunkedPayload


def open_payload(
    call: Call, *, sized: bool = True, checksum_of_body: bool = True
) -> tuple[ObjectPayload, Promise]:
    """The body of this request as an object's bytes, and what is promised about them.

    Without `sized` a plain body may leave out its length (0 is given then). A completion's checksum
    header is about the finished object: there `checksum_of_body` is false.

    Raises: S3Error MissingContentLength, EntityTooLarge, InvalidDigest, InvalidRequest.
    """
    claimed = call.claim.payload
    mode = claimed.mode
    checksum = _expected(call) if checksum_of_body else None
    if checksum is not None and checksum.in_trailer and not mode.trailer:
        raise S3Error("InvalidRequest", "x-amz-trailer needs a body that carries trailers.")
    promise = Promise(
        checksums.parse_content_md5(call.headers.get(b"content-md5")),
        claimed.text if mode is PayloadMode.SHA256 else "",
        checksum,
    )
    if not mode.streaming:
        if not sized and _LENGTH not in call.headers:
            return PlainPayload(call.request.body, 0), promise
        return PlainPayload(call.request.body, _length(call, _LENGTH)), promise
    length = _length(call, _DECODED_LENGTH)
    signing = None
    claim, key = call.claim, call.signing_key
    if mode.signed_chunks and key is not None and isinstance(claim, Claim):
        signing = ChunkSigning(key, claim.timestamp, claim.scope, claim.signature)
    trailers = None
    if mode.trailer:
        names = call.text(b"x-amz-trailer").lower().split(",")
        trailers = frozenset(name.strip() for name in names if name.strip())
    decoder = AwsChunkedDecoder(length, signing=signing, trailers=trailers)
    return ChunkedPayload(call.request.body, length, decoder), promise


def _length(call: Call, header: bytes) -> int:
    value = call.headers.get(header)
    if value is None:
        raise S3Error("MissingContentLength")
    if not value.isdigit() or len(value) > 19:
        raise S3Error("InvalidArgument", ArgumentName=header.decode(), ArgumentValue=value)
    length = int(value)
    if length > PUT_BYTES_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=length, MaxSizeAllowed=PUT_BYTES_MAX)
    return length


async def read_small_body(
    call: Call, bytes_max: int = XML_BYTES_MAX, *, checksum_of_body: bool = True
) -> bytes:
    """A whole body of an operation that takes a document, its digests verified; `b""` for none.

    Raises: S3Error MaxMessageLengthExceeded and what `open_payload` and `Digests.verify` raise.
    """
    payload, promise = open_payload(call, sized=False, checksum_of_body=checksum_of_body)
    digests = Digests(promise)
    pieces: list[bytes] = []
    size = payload.length
    if size <= bytes_max:
        size = 0
        while size <= bytes_max and (piece := await payload.read()):
            digests.update(piece)
            pieces.append(piece)
            size += len(piece)
    if size > bytes_max:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=bytes_max)
    digests.verify(payload.trailers)
    return b"".join(pieces)


def body_is_protected(call: Call) -> bool:
    """Whether a digest of the body came along, as DeleteObjects demands (MD5 or a checksum)."""
    return b"content-md5" in call.headers or _expected(call) is not None


def _expected(call: Call) -> checksums.Expected | None:
    """The checksum that comes with the request; one given twice is refused."""
    return checksums.parse_expected(call.request.repeated or call.notable())
