"""What signing and verifying share in AWS Signature Version 4: canonical forms, keys, digests.

The path is decoded and encoded once and never normalised, as S3 does it and other services do not.
Source: AWS, "Authenticating requests (Signature Version 4)", the S3 pages.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from .target import Target, percent_decode, uri_encode

ALGORITHM = b"AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"
_SIGNATURE = b"X-Amz-Signature"
EMPTY_SHA256 = sha256(b"").hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

Headers = Iterable[tuple[bytes, bytes]]
"""Lower-cased names, values without outer blanks."""

_PLAIN_PATH = re.compile(rb"[A-Za-z0-9/_.~-]*")
_ENCODED = (
    rb"(?:[A-Za-z0-9_.~-]++|%(?:[01][0-9A-F]|2[0-9ABCF]|3[A-F]|40|5[B-E]|60|7[BCDF]"
    rb"|[89A-F][0-9A-F]))*+"
)
_ENCODED_QUERY = re.compile(rb"%b=%b(?:&%b=%b)*+" % ((_ENCODED,) * 4))
"""A query whose names and values are encoded just as UriEncode would encode them."""


def signing_key(secret: str, date: str, region: str, service: str = SERVICE) -> bytes:
    """The key of one day (`yyyymmdd`) and region; worth caching, four HMACs to derive."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    key = hmac.digest(key, region.encode(), "sha256")
    key = hmac.digest(key, service.encode(), "sha256")
    return hmac.digest(key, TERMINATOR.encode(), "sha256")


def sign(key: bytes, text: bytes) -> str:
    return hmac.digest(key, text, "sha256").hex()


def string_to_sign(timestamp: str, scope: str, canonical: bytes) -> bytes:
    """`scope` is `date/region/service/aws4_request`."""
    return b"%s\n%s\n%s\n%s" % (
        ALGORITHM,
        timestamp.encode(),
        scope.encode(),
        sha256(canonical).hexdigest().encode(),
    )


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
    if _PLAIN_PATH.fullmatch(path) is not None:
        return path
    return uri_encode(percent_decode(path), "/").encode()


def canonical_query(query: bytes) -> bytes:
    """Parameters encoded and sorted by their encoded bytes, X-Amz-Signature left out."""
    if _ENCODED_QUERY.fullmatch(query) is None:
        return encode_query(query)
    # What SDKs send: decoding and encoding would change nothing, so only the order is left.
    parts = sorted([part.partition(b"=") for part in query.split(b"&")])
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
