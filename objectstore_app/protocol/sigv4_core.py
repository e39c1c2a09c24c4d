"""What signing and verifying share in AWS Signature Version 4: canonical forms, keys, digests.

`canonical_request` is the plain rule. Requests of one client differ in little, so verifying them
uses `SignedHeaders`, the rule with all that repeats worked out once; both give the same bytes. The
path is decoded and encoded once and never normalised, as S3 does it and other services do not.
Source: AWS, "Authenticating requests (Signature Version 4)", the S3 pages.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import repeat

import msgspec

from .target import Target, percent_decode, uri_encode

ALGORITHM = b"AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"
_SIGNATURE = b"X-Amz-Signature"
EMPTY_SHA256 = sha256(b"").hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_SHA256_BLOCK_BYTES = 64
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_MISSING = repeat(b"")
_NOTHING_HASHED = sha256()
"""Copied rather than made anew, which would look the algorithm up each time."""

Headers = Iterable[tuple[bytes, bytes]]
"""Lower-cased names, values without outer blanks."""

_PLAIN_IN_PATH = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.~-"
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_ENCODED = (
    rb"(?:[A-Za-z0-9_.~-]++|%(?:[01][0-9A-F]|2[0-9ABCF]|3[A-F]|40|5[B-E]|60|7[BCDF]"
    rb"|[89A-F][0-9A-F]))*+"
)
_ENCODED_QUERY = re.compile(rb"%b=%b(?:&%b=%b)*+" % ((_ENCODED,) * 4))
"""A query whose names and values are encoded just as UriEncode would encode them."""


class SigningKey:
    """The key of one day and region, hashed into the two states of HMAC-SHA-256 that each signature
    goes on from (RFC 2104): a third less than a copy of `hmac`'s own object takes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        """`key` is itself a digest, so it is never longer than a block."""
        block = key.ljust(_SHA256_BLOCK_BYTES, b"\0")
        self._inner = sha256(block.translate(_INNER_PAD))
        self._outer = sha256(block.translate(_OUTER_PAD))

    def sign(self, text: bytes) -> str:
        """The signature in lower-case hexadecimal digits."""
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


def signing_key(secret: str, date: str, region: str, service: str = SERVICE) -> SigningKey:
    """The key of one day (`yyyymmdd`) and region; worth caching, four HMACs to derive."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    key = hmac.digest(key, region.encode(), "sha256")
    key = hmac.digest(key, service.encode(), "sha256")
    return SigningKey(hmac.digest(key, TERMINATOR.encode(), "sha256"))


def string_to_sign(timestamp: bytes, scope: bytes, canonical: bytes) -> bytes:
    """`scope` is `date/region/service/aws4_request`."""
    hashed = _NOTHING_HASHED.copy()
    hashed.update(canonical)
    return b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (timestamp, scope, hashed.hexdigest().encode())


class SignedHeaders(msgspec.Struct, frozen=True, gc=False):
    """The names that a signature covers. `names` are sorted, `listed` the same as a set; `form` is
    the canonical request with places for what differs.
    """

    names: tuple[bytes, ...]
    listed: frozenset[bytes]
    form: bytes

    def canonical_request(
        self, method: str, target: Target, headers: Mapping[bytes, bytes], payload_hash: bytes
    ) -> bytes:
        """As the function of that name, for headers of which each occurs once."""
        canonical = self.form % (
            method.encode(),
            canonical_path(target.path),
            canonical_query(target.query) if target.query else b"",
            *map(headers.get, self.names, _MISSING),
            payload_hash,
        )
        if (b" " in canonical and b"  " in canonical) or b"\t" in canonical:
            return canonical_request(
                method, target, headers.items(), self.names, payload_hash.decode()
            )
        return canonical


@lru_cache(maxsize=256)
def signed_headers(raw: bytes) -> SignedHeaders | None:
    """`host;x-amz-date;…` taken apart; None when one of them is no header name."""
    listed = frozenset(raw.split(b";"))
    if any(_HEADER_NAME.fullmatch(name) is None for name in listed):
        return None
    names = tuple(sorted(listed))
    lines = b"".join([name.replace(b"%", b"%%") + b":%b\n" for name in names])
    joined = b";".join(names).replace(b"%", b"%%")
    return SignedHeaders(names, listed, b"%b\n%b\n%b\n" + lines + b"\n" + joined + b"\n%b")


def canonical_request(
    method: str,
    target: Target,
    headers: Headers,
    signed_headers: Sequence[bytes],
    payload_hash: str,
) -> bytes:
    """`signed_headers` are sorted; a header that occurs more than once is joined by commas,
    runs of blanks become one space.

    Raises: S3Error InvalidURI (bad percent-encoding).
    """
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in signed_headers:
            continue
        if b"  " in value or b"\t" in value:
            value = b" ".join(value.split())
        values[name] = values[name] + b"," + value if name in values else value
    lines = b"".join(
        [b"%s:%s\n" % (name, values.get(name, b"").strip()) for name in signed_headers]
    )
    return b"%s\n%s\n%s\n%s\n%s\n%s" % (
        method.encode(),
        canonical_path(target.path),
        canonical_query(target.query) if target.query else b"",
        lines,
        b";".join(signed_headers),
        payload_hash.encode(),
    )


def canonical_path(path: bytes) -> bytes:
    if not path.translate(None, _PLAIN_IN_PATH):
        return path
    return uri_encode(percent_decode(path), "/").encode()


def canonical_query(query: bytes) -> bytes:
    """Parameters encoded and sorted by their encoded bytes, X-Amz-Signature left out."""
    if _ENCODED_QUERY.fullmatch(query) is None:
        return encode_query(query)
    # What SDKs send: decoding and encoding would change nothing, so only the order is left.
    parts = sorted([part.partition(b"=") for part in query.split(b"&") if part])
    return b"&".join([name + b"=" + value for name, _, value in parts if name != _SIGNATURE])


def encode_query(query: bytes) -> bytes:
    """The canonical query by the plain rule, whatever the encoding of the query."""
    pairs = []
    for part in query.replace(b"+", b" ").split(b"&"):
        name, _, value = part.partition(b"=")
        decoded = percent_decode(name)
        if part and decoded != _SIGNATURE:
            pairs.append((uri_encode(decoded), uri_encode(percent_decode(value))))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs]).encode()
