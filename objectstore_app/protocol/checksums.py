"""Object checksums: incremental hashers, combining those of parts, and the headers that carry them.

Five algorithms behind one interface; values travel as base64 of the big-endian digest. A multipart
object's checksum is *composite* (the digest of the parts' digests, with `-N`) or *full object*
(CRCs combined; impossible for SHA). Source: AWS, "Checking object integrity", and the API pages.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from awscrt import checksums as crt

from .errors import S3Error

Buffer = bytes | bytearray | memoryview

COMPOSITE = "COMPOSITE"
FULL_OBJECT = "FULL_OBJECT"


class Hasher(Protocol):
    """Computes one checksum over pieces of a body."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class Algorithm(Enum):
    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    SHA1 = "SHA1"
    SHA256 = "SHA256"

    def __init__(self, value: str) -> None:
        self.label = value
        """Its `value`, which costs a look-up of its own."""
        self.header = f"x-amz-checksum-{value.lower()}"
        self.is_crc = value.startswith("CRC")

    @property
    def digest_bytes(self) -> int:
        return _DIGEST_BYTES[self]

    # The members are what they are: hashing their names anew for each body costs more than a CRC.
    __hash__ = object.__hash__


class _Crc:
    """A CRC as a hasher; the functions take and return the running value."""

    __slots__ = ("_bytes", "_function", "_value")

    def __init__(self, function: Callable[[Buffer, int], int], size: int) -> None:
        self._function = function
        self._bytes = size
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._bytes, "big")


_CRCS: dict[Algorithm, Callable[[Buffer, int], int]] = {
    Algorithm.CRC32: crt.crc32,
    Algorithm.CRC32C: crt.crc32c,
    Algorithm.CRC64NVME: crt.crc64nvme,
}
_COMBINE: dict[Algorithm, Callable[[int, int, int], int]] = {
    Algorithm.CRC32: crt.combine_crc32,
    Algorithm.CRC32C: crt.combine_crc32c,
    Algorithm.CRC64NVME: crt.combine_crc64nvme,
}
_DIGEST_BYTES = {
    Algorithm.CRC32: 4,
    Algorithm.CRC32C: 4,
    Algorithm.CRC64NVME: 8,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
}
_HEADERS = {algorithm.header.encode(): algorithm for algorithm in Algorithm}
_NOT_VALUES = frozenset(
    {b"x-amz-checksum-algorithm", b"x-amz-checksum-type", b"x-amz-checksum-mode"}
)


def new_hasher(algorithm: Algorithm) -> Hasher:
    if algorithm in _CRCS:
        return _Crc(_CRCS[algorithm], _DIGEST_BYTES[algorithm])
    if algorithm is Algorithm.SHA1:
        return hashlib.sha1(usedforsecurity=False)
    return hashlib.sha256()


def encode(digest: bytes) -> str:
    return b64encode(digest).decode("ascii")


def checksum_of(algorithm: Algorithm, data: Buffer) -> str:
    """The base64 checksum of a whole body."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return encode(hasher.digest())


def composite(algorithm: Algorithm, parts: Iterable[str]) -> str:
    """The composite checksum of parts' base64 checksums, with `-N`."""
    digests = [b64decode(part) for part in parts]
    return f"{checksum_of(algorithm, b''.join(digests))}-{len(digests)}"


def full_object(algorithm: Algorithm, parts: Sequence[tuple[str, int]]) -> str:
    """The CRC of the whole object from `(base64 CRC, size)` of its parts, in order."""
    combine = _COMBINE[algorithm]
    value = 0
    for part, size in parts:
        value = combine(value, int.from_bytes(b64decode(part), "big"), size)
    return encode(value.to_bytes(_DIGEST_BYTES[algorithm], "big"))


def mismatch(algorithm: Algorithm) -> S3Error:
    """The error for a body whose checksum is not the one promised."""
    return S3Error(
        "BadDigest", f"The {algorithm.value} you specified did not match the calculated checksum."
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request says about its body: `value` (base64) is empty when a trailer brings it."""

    algorithm: Algorithm
    value: str

    @property
    def in_trailer(self) -> bool:
        return not self.value


def parse_expected(headers: Iterable[tuple[bytes, bytes]]) -> Expected | None:
    """The checksum that a request's headers give or announce; lower-cased names.

    Raises: S3Error InvalidRequest (several, unknown, malformed or contradicting).
    """
    found: list[Expected] = []
    sdk: bytes | None = None
    for name, value in headers:
        if not name.startswith(b"x-amz-"):
            continue
        if name == b"x-amz-trailer":
            found.extend(Expected(one, "") for one in _trailer_algorithms(value))
        elif name == b"x-amz-sdk-checksum-algorithm":
            sdk = value
        elif name.startswith(b"x-amz-checksum-") and name not in _NOT_VALUES:
            found.append(_header_value(name, value))
    if len(found) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    if sdk is not None:
        _check_sdk_algorithm(sdk, found)
    return found[0] if found else None


def trailer_value(expected: Expected, trailers: dict[str, str]) -> str:
    """The value that the trailer brought for an announced checksum.

    Raises: S3Error MalformedTrailerError, InvalidRequest.
    """
    value = trailers.get(expected.algorithm.header)
    if value is None:
        raise S3Error("MalformedTrailerError")
    return _header_value(expected.algorithm.header.encode(), value.encode("latin-1")).value


def parse_algorithm(value: str, header: str) -> Algorithm:
    """Raises: S3Error InvalidRequest for an algorithm that we don't have."""
    try:
        return Algorithm(value.upper())
    except ValueError as error:
        raise S3Error(
            "InvalidRequest",
            f"Value for {header} header is invalid. Valid values are: "
            + ", ".join(algorithm.value for algorithm in Algorithm),
        ) from error


def parse_multipart(algorithm: str | None, kind: str | None) -> tuple[Algorithm | None, str]:
    """x-amz-checksum-algorithm and x-amz-checksum-type of CreateMultipartUpload, with defaults.

    Raises: S3Error InvalidRequest.
    """
    if not algorithm:
        if kind:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
                "header.",
            )
        return None, ""
    chosen = parse_algorithm(algorithm, "x-amz-checksum-algorithm")
    default = FULL_OBJECT if chosen is Algorithm.CRC64NVME else COMPOSITE
    scope = (kind or default).upper()
    if scope not in (COMPOSITE, FULL_OBJECT):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if (scope == FULL_OBJECT and not chosen.is_crc) or (
        scope == COMPOSITE and chosen is Algorithm.CRC64NVME
    ):
        raise S3Error(
            "InvalidRequest",
            f"The {scope} checksum type cannot be used with the {chosen.value} checksum algorithm.",
        )
    return chosen, scope


def parse_content_md5(value: bytes | None) -> bytes | None:
    """The 16 bytes of Content-MD5. Raises: S3Error InvalidDigest."""
    if value is None:
        return None
    digest = _decode(value)
    if digest is None or len(digest) != 16:
        raise S3Error("InvalidDigest", Content_MD5=value)
    return digest


def _header_value(name: bytes, value: bytes) -> Expected:
    algorithm = _HEADERS.get(name)
    if algorithm is None:
        raise S3Error(
            "InvalidRequest", f"The checksum of {name.decode('latin-1')} is not supported."
        )
    digest = _decode(value)
    if digest is None or len(digest) != algorithm.digest_bytes:
        raise S3Error("InvalidRequest", f"Value for {algorithm.header} header is invalid.")
    return Expected(algorithm, value.decode("ascii"))


def _trailer_algorithms(value: bytes) -> list[Algorithm]:
    names = [name.strip().lower() for name in value.split(b",")]
    for name in names:
        if name not in _HEADERS:
            raise S3Error(
                "InvalidRequest",
                "The value specified in the x-amz-trailer header is not supported",
            )
    return [_HEADERS[name] for name in names]


def _check_sdk_algorithm(value: bytes, found: list[Expected]) -> None:
    algorithm = parse_algorithm(value.decode("latin-1"), "x-amz-sdk-checksum-algorithm")
    if not found:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    if found[0].algorithm is not algorithm:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _decode(value: bytes) -> bytes | None:
    try:
        return b64decode(value, validate=True)
    except (Base64Error, ValueError):
        return None
