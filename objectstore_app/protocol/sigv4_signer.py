"""The client's side of Signature Version 4: sign a request, presign a URL.

For the command line's admin client and for tests. Source: as sigv4.
"""

from __future__ import annotations

from collections.abc import Mapping

from .dates import iso_basic
from .sigv4_core import (
    ALGORITHM,
    EMPTY_SHA256,
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    canonical_request,
    signing_key,
    string_to_sign,
)
from .target import split_target, uri_encode


def sign_request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret: str,
    region: str,
    now: float,
    payload_hash: str = EMPTY_SHA256,
) -> dict[str, str]:
    """Return the headers of the request, signed: those given (Host must be among them) and
    x-amz-date, x-amz-content-sha256, authorization. All given headers are signed.
    """
    timestamp = iso_basic(int(now))
    signed = {name.lower(): value.strip() for name, value in headers.items()}
    signed["x-amz-date"] = timestamp
    signed["x-amz-content-sha256"] = payload_hash
    names = sorted(signed)
    signature = _signature(method, target, signed, names, payload_hash, secret, region, timestamp)
    signed["authorization"] = (
        f"{ALGORITHM.decode()} Credential={access_key}/{_scope(timestamp, region)}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


def presign(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret: str,
    region: str,
    now: float,
    expires_s: int = 3600,
) -> str:
    """Return the target with the signature in its query.

    The request must send `headers` (Host among them) as given.
    """
    timestamp = iso_basic(int(now))
    signed = {name.lower(): value.strip() for name, value in headers.items()}
    names = sorted(signed)
    parameters = {
        "X-Amz-Algorithm": ALGORITHM.decode(),
        "X-Amz-Credential": f"{access_key}/{_scope(timestamp, region)}",
        "X-Amz-Date": timestamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": ";".join(names),
    }
    query = "&".join(f"{name}={uri_encode(value.encode())}" for name, value in parameters.items())
    target = f"{target}{'&' if '?' in target else '?'}{query}"
    signature = _signature(
        method, target, signed, names, UNSIGNED_PAYLOAD, secret, region, timestamp
    )
    return f"{target}&X-Amz-Signature={signature}"


def _scope(timestamp: str, region: str) -> str:
    return f"{timestamp[:8]}/{region}/{SERVICE}/{TERMINATOR}"


def _signature(
    method: str,
    target: str,
    headers: Mapping[str, str],
    names: list[str],
    payload_hash: str,
    secret: str,
    region: str,
    timestamp: str,
) -> str:
    canonical = canonical_request(
        method,
        split_target(target.encode()),
        [(name.encode(), value.encode()) for name, value in headers.items()],
        [name.encode() for name in names],
        payload_hash,
    )
    key = signing_key(secret, timestamp[:8], region)
    scope = _scope(timestamp, region)
    return key.sign(string_to_sign(timestamp.encode(), scope.encode(), canonical))
