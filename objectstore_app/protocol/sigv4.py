"""Who says they sent a request, and whether the signature proves it (AWS Signature Version 4).

Two steps, so that looking up the secret lies between them: `parse` reads the claim and checks
everything that needs no secret (form, scope, dates, which headers are signed), `verify` compares
the signature in constant time. `parse` of a request that carries no credentials returns
`Anonymous`. An unknown access key (InvalidAccessKeyId) is the caller's to refuse. The payload's
hash is part of the claim; whether the body fits it is checked by who reads the body.
Source: AWS, "Authenticating requests (Signature Version 4)"; S3's published error texts.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import NoReturn

import msgspec

from ..core.limits import CLOCK_SKEW_S_MAX, PRESIGN_EXPIRES_S_MAX
from .dates import iso_basic, iso_extended, parse_http_date, parse_iso_basic
from .errors import S3Error
from .sigv4_core import (
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    canonical_request,
    sign,
    signing_key,
    string_to_sign,
)
from .target import Query, Target

__all__ = ["Anonymous", "Claim", "Payload", "PayloadMode", "parse", "signing_key", "verify"]


class PayloadMode(Enum):
    """How x-amz-content-sha256 says the body is protected."""

    SHA256 = "SHA256"
    UNSIGNED = UNSIGNED_PAYLOAD
    STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    def __init__(self, value: str) -> None:
        self.streaming = value.startswith("STREAMING-")
        """The body is aws-chunked."""
        self.signed_chunks = value.startswith("STREAMING-AWS4-")
        self.trailer = value.endswith("-TRAILER")


class Payload(msgspec.Struct, frozen=True, gc=False):
    """`text` is the value as it stands in the canonical request; with SHA256 the hex digest."""

    mode: PayloadMode
    text: str


class Anonymous(msgspec.Struct, frozen=True, gc=False):
    """No credentials at all."""

    payload: Payload


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Credentials as given, well-formed and in time, but not yet proven.

    The key to prove them with is `signing_key(secret, claim.date, claim.region)`; `signature` is
    also the seed of an aws-chunked body, whose chunks are signed over `timestamp` and `scope`.
    """

    access_key: str
    date: str
    region: str
    timestamp: str
    signed_headers: tuple[bytes, ...]
    signature: str
    payload: Payload
    presigned: bool
    canonical: bytes
    text: bytes

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{SERVICE}/{TERMINATOR}"


def parse(
    method: str,
    target: Target,
    query: Query,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    region: str,
    now: float,
) -> Claim | Anonymous:
    """Read the credentials of a request. `now` is seconds since the epoch.

    Raises: S3Error with the code S3 gives for each way in which credentials can be wrong.
    """
    fields = dict(reversed(headers))
    authorization = fields.get(b"authorization")
    if query and ("X-Amz-Algorithm" in query or "X-Amz-Signature" in query):
        if authorization is not None:
            raise S3Error("InvalidArgument", _ONE_MECHANISM, ArgumentName="Authorization")
        return _parse_presigned(method, target, query, headers, fields, region, now)
    if authorization is not None:
        return _parse_header(method, target, headers, fields, authorization, region, now)
    if query and "Signature" in query and "AWSAccessKeyId" in query:
        raise S3Error("InvalidRequest", _ONLY_V4)
    payload = _payload(fields.get(b"x-amz-content-sha256"))
    if payload.mode.signed_chunks:
        raise S3Error("AccessDenied", "A signed body needs a signed request.")
    return Anonymous(payload)


def verify(claim: Claim, key: bytes) -> None:
    """Check the signature with the signing key of the claim's date and region.

    Raises: S3Error SignatureDoesNotMatch, with what was signed so that a client can compare.
    """
    if not hmac.compare_digest(sign(key, claim.text), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=claim.text,
            SignatureProvided=claim.signature,
            StringToSignBytes=claim.text.hex(" "),
            CanonicalRequest=claim.canonical,
            CanonicalRequestBytes=claim.canonical.hex(" "),
        )


# --- the Authorization header ---


def _parse_header(
    method: str,
    target: Target,
    headers: Sequence[tuple[bytes, bytes]],
    fields: dict[bytes, bytes],
    authorization: bytes,
    region: str,
    now: float,
) -> Claim:
    scheme, _, rest = authorization.partition(b" ")
    if scheme != b"AWS4-HMAC-SHA256":
        _refuse_scheme(scheme)
    credential, signed, signature = _authorization_parts(rest)
    scope = _credential(credential, _header_malformed)
    _, date, claimed_region = scope
    timestamp, second = _request_time(fields)
    if timestamp[:8] != date:
        _header_malformed(
            f'Invalid credential date "{date}". This date is not the same as X-Amz-Date: '
            f'"{timestamp[:8]}".'
        )
    _check_region(claimed_region, region, "AuthorizationHeaderMalformed", "header")
    if abs(now - second) > CLOCK_SKEW_S_MAX:
        raise S3Error(
            "RequestTimeTooSkewed",
            RequestTime=timestamp,
            ServerTime=iso_extended(int(now) * 1000),
            MaxAllowedSkewMilliseconds=CLOCK_SKEW_S_MAX * 1000,
        )
    if _HEX64.fullmatch(signature) is None:
        _header_malformed("the Signature is mal-formed.")
    if (content_hash := fields.get(b"x-amz-content-sha256")) is None:
        raise S3Error(
            "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    payload = _payload(content_hash)
    names = _signed_headers(signed, headers, _header_malformed)
    _refuse_token(fields.get(b"x-amz-security-token"))
    return _claim(
        method, target, headers, names, scope, timestamp, signature, payload, presigned=False
    )


def _authorization_parts(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Credential, SignedHeaders and Signature, with or without blanks after the commas."""
    parts: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, equals, value = part.strip().partition(b"=")
        if not equals or name in parts:
            _header_malformed("the authorization header requires three components.")
        parts[name] = value
    for name in _AUTHORIZATION_PARTS:
        if not parts.get(name):
            _header_malformed(
                "The authorization header requires three components: Credential, SignedHeaders, "
                f"and Signature; {name.decode()} is missing."
            )
    return parts[b"Credential"], parts[b"SignedHeaders"], parts[b"Signature"]


def _request_time(fields: dict[bytes, bytes]) -> tuple[str, int]:
    """x-amz-date, or else Date, as `(yyyymmddThhmmssZ, epoch seconds)`."""
    value = fields.get(b"x-amz-date")
    second = _header_second(fields.get(b"date", b"")) if value is None else _amz_second(value)
    if second is None:
        raise S3Error(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    return iso_basic(second) if value is None else value.decode("ascii"), second


def _refuse_scheme(scheme: bytes) -> NoReturn:
    if scheme == b"AWS":
        raise S3Error("InvalidRequest", _ONLY_V4)
    if scheme.startswith(b"AWS4-ECDSA"):
        raise S3Error(
            "NotImplemented", "Signature Version 4A is not implemented; sign with AWS4-HMAC-SHA256."
        )
    raise S3Error(
        "InvalidArgument",
        "Unsupported Authorization Type",
        ArgumentName="Authorization",
        ArgumentValue=scheme,
    )


def _header_malformed(reason: str) -> NoReturn:
    raise S3Error(
        "AuthorizationHeaderMalformed", f"The authorization header is malformed; {reason}"
    )


# --- the query (presigned) ---


def _parse_presigned(
    method: str,
    target: Target,
    query: Query,
    headers: Sequence[tuple[bytes, bytes]],
    fields: dict[bytes, bytes],
    region: str,
    now: float,
) -> Claim:
    values = [query.raw(name) or b"" for name in _PRESIGNED_PARTS]
    algorithm, credential, signature, date_time, signed, expires = values
    if algorithm.startswith(b"AWS4-ECDSA"):
        _refuse_scheme(algorithm)
    if b"" in values:
        _query_malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires "
            f"parameters; {_PRESIGNED_PARTS[values.index(b'')]} is missing."
        )
    if algorithm != b"AWS4-HMAC-SHA256":
        _query_malformed('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    scope = _credential(credential, _query_malformed)
    _, date, claimed_region = scope
    timestamp = date_time.decode("latin-1")
    second = _amz_second(date_time)
    if second is None:
        _query_malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if timestamp[:8] != date:
        _query_malformed(
            f'Invalid credential date "{date}". This date is not the same as X-Amz-Date: '
            f'"{timestamp[:8]}".'
        )
    _check_region(claimed_region, region, "AuthorizationQueryParametersError", "query")
    _check_expiry(second, expires, now)
    if _HEX64.fullmatch(signature) is None:
        _query_malformed("X-Amz-Signature is not well-formed.")
    names = _signed_headers(signed, headers, _query_malformed)
    _refuse_token(query.raw("X-Amz-Security-Token"))
    payload = _payload(query.raw("X-Amz-Content-Sha256") or fields.get(b"x-amz-content-sha256"))
    if payload.mode.streaming:
        raise S3Error("InvalidRequest", "A presigned request cannot have an aws-chunked body.")
    return _claim(
        method, target, headers, names, scope, timestamp, signature, payload, presigned=True
    )


def _check_expiry(second: int, expires: bytes, now: float) -> None:
    if not expires.isdigit() or len(expires) > 12:
        _query_malformed(
            "X-Amz-Expires must be non-negative"
            if expires[:1] == b"-"
            else "X-Amz-Expires should be a number"
        )
    lifetime = int(expires)
    if lifetime > PRESIGN_EXPIRES_S_MAX:
        _query_malformed(
            f"X-Amz-Expires must be less than a week (in seconds) that is {PRESIGN_EXPIRES_S_MAX}"
        )
    if lifetime < 1:
        _query_malformed("X-Amz-Expires must be at least 1")
    if now < second - CLOCK_SKEW_S_MAX:
        raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=_iso(now))
    if now > second + lifetime:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            X_Amz_Expires=lifetime,
            Expires=_iso(second + lifetime),
            ServerTime=_iso(now),
        )


def _query_malformed(reason: str) -> NoReturn:
    raise S3Error("AuthorizationQueryParametersError", reason)


# --- both ---


def _claim(
    method: str,
    target: Target,
    headers: Sequence[tuple[bytes, bytes]],
    names: tuple[bytes, ...],
    credential: tuple[str, str, str],
    timestamp: str,
    signature: bytes,
    payload: Payload,
    *,
    presigned: bool,
) -> Claim:
    access_key, date, region = credential
    canonical = canonical_request(method, target, headers, names, payload.text)
    scope = f"{date}/{region}/{SERVICE}/{TERMINATOR}"
    return Claim(
        access_key,
        date,
        region,
        timestamp,
        names,
        signature.decode(),
        payload,
        presigned,
        canonical,
        string_to_sign(timestamp, scope, canonical),
    )


@lru_cache(maxsize=256)
def _credential(raw: bytes, malformed: Callable[[str], NoReturn]) -> tuple[str, str, str]:
    """Access key, date and region of `KEY/yyyymmdd/region/s3/aws4_request`; a key may hold `/`."""
    parts = raw.decode("latin-1").rsplit("/", 4)
    if len(parts) != 5 or not parts[0]:
        malformed(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/'
            'aws4_request".'
        )
    access_key, date, region, service, terminator = parts
    if _DATE.fullmatch(date) is None:
        malformed(
            f'incorrect date format "{date}". This date in the credential must be "yyyyMMdd".'
        )
    if service != SERVICE:
        malformed(f'incorrect service "{service}". This endpoint belongs to "{SERVICE}".')
    if terminator != TERMINATOR:
        malformed(f'incorrect terminal "{terminator}". This endpoint uses "{TERMINATOR}".')
    return access_key, date, region


def _check_region(claimed: str, region: str, code: str, where: str) -> None:
    if claimed != region:
        raise S3Error(
            code,
            f"The authorization {where} is malformed; the region '{claimed}' is wrong; expecting "
            f"'{region}'",
            Region=region,
        )


def _signed_headers(
    signed: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    malformed: Callable[[str], NoReturn],
) -> tuple[bytes, ...]:
    """The sorted names; host and every x-amz-* header that the request has must be among them."""
    listed, names = _split_names(signed)
    if not names:
        malformed("SignedHeaders is mal-formed.")
    missing = [
        name
        for name, _ in headers
        if (name == b"host" or name.startswith(b"x-amz-")) and name not in listed
    ]
    if missing or b"host" not in listed:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=b", ".join(missing or [b"host"]),
        )
    return names


# Caches: the same few values come with every request of a client, in the same second.
_amz_second = lru_cache(maxsize=256)(parse_iso_basic)
_header_second = lru_cache(maxsize=256)(parse_http_date)


@lru_cache(maxsize=256)
def _split_names(signed: bytes) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """The names as a set and sorted; both empty when one of them is no header name."""
    names = frozenset(signed.split(b";"))
    if any(_HEADER_NAME.fullmatch(name) is None for name in names):
        return frozenset(), ()
    return names, tuple(sorted(names))


def _refuse_token(token: bytes | None) -> None:
    # There are no temporary credentials: a token beside a lasting key is never valid.
    if token:
        raise S3Error("InvalidToken", Token_0=token)


def _payload(value: bytes | None) -> Payload:
    if value is None or value == b"UNSIGNED-PAYLOAD":
        return _UNSIGNED
    if _HEX64.fullmatch(value) is not None:
        return Payload(PayloadMode.SHA256, value.decode())
    text = value.decode("latin-1")
    if text in _STREAMING:
        return _STREAMING[text]
    if text.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"):
        raise S3Error("NotImplemented", "Signature Version 4A is not implemented.")
    raise S3Error(
        "InvalidArgument",
        f"x-amz-content-sha256 must be {UNSIGNED_PAYLOAD}, {', '.join(_STREAMING)}, or a valid "
        "sha256 value.",
        ArgumentName="x-amz-content-sha256",
        ArgumentValue=text,
    )


def _iso(second: float) -> str:
    return iso_extended(int(second) * 1000)


_UNSIGNED = Payload(PayloadMode.UNSIGNED, UNSIGNED_PAYLOAD)
_STREAMING = {mode.value: Payload(mode, mode.value) for mode in PayloadMode if mode.streaming}
_DATE = re.compile(r"[0-9]{8}")
_HEX64 = re.compile(rb"[0-9a-f]{64}")
_HEADER_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_AUTHORIZATION_PARTS = (b"Credential", b"SignedHeaders", b"Signature")
_PRESIGNED_PARTS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_ONLY_V4 = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)
_ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
    "string parameter or the Authorization header should be specified"
)
