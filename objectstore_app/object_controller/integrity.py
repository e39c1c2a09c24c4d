"""What is computed over a body, and what the client said it would be.

One `Digests` serves one body: fed while the body comes in, checked before anything names the bytes.
When the client asked for no checksum CRC64NVME is computed, as S3 does, so that every object has
one that a later reader can ask for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from ..protocol import checksums
from ..protocol.checksums import Algorithm, Expected
from ..protocol.errors import S3Error
from .receive import Piece

DEFAULT_ALGORITHM = Algorithm.CRC64NVME
# Copied rather than made anew, which would look the algorithm up each time.
_MD5 = hashlib.md5(usedforsecurity=False)
_SHA256 = hashlib.sha256()


class Promise(msgspec.Struct, frozen=True, gc=False):
    """What a request says about its body: `md5` raw, `sha256` in hex (the signed payload hash)."""

    md5: bytes | None = None
    sha256: str = ""
    checksum: Expected | None = None


NOTHING_PROMISED = Promise()


class Digests:
    """MD5 (the ETag), one or two checksums, and SHA-256 where the signature covers the body."""

    __slots__ = ("_algorithms", "_hashers", "_md5", "_promise", "_sha256")

    def __init__(self, promise: Promise, *wanted: Algorithm) -> None:
        """`wanted` are computed besides the promised one; none of both means the default."""
        self._promise = promise
        self._md5 = _MD5.copy()
        self._sha256 = _SHA256.copy() if promise.sha256 else None
        if promise.checksum is not None and promise.checksum.algorithm not in wanted:
            wanted = (promise.checksum.algorithm, *wanted)
        self._algorithms = wanted or (DEFAULT_ALGORITHM,)
        self._hashers = [checksums.new_hasher(algorithm) for algorithm in self._algorithms]

    def update(self, data: Piece) -> None:
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        for hasher in self._hashers:
            hasher.update(data)

    @property
    def etag(self) -> str:
        return self._md5.hexdigest()

    def checksums(self) -> dict[str, str]:
        return {
            algorithm.label: checksums.encode(hasher.digest())
            for algorithm, hasher in zip(self._algorithms, self._hashers, strict=True)
        }

    def verify(self, trailers: Mapping[str, str]) -> dict[str, str]:
        """Compare with what was promised and return the checksums.

        Raises: S3Error XAmzContentSHA256Mismatch, BadDigest, MalformedTrailerError.
        """
        promise = self._promise
        if self._sha256 is not None and self._sha256.hexdigest() != promise.sha256:
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=promise.sha256,
                S3ComputedContentSHA256=self._sha256.hexdigest(),
            )
        if promise.md5 is not None and self._md5.digest() != promise.md5:
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=checksums.encode(promise.md5),
                CalculatedDigest=checksums.encode(self._md5.digest()),
            )
        computed = self.checksums()
        expected = promise.checksum
        if expected is not None:
            value = expected.value or checksums.trailer_value(expected, dict(trailers))
            if computed[expected.algorithm.label] != value:
                raise checksums.mismatch(expected.algorithm)
        return computed
