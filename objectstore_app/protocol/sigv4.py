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
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import NoReturn

import msgspec

from ..core.limits import CLOCK_SKEW_S_MAX, PRESIGN_EXPIRES_S_MAX
from .dates import iso_basic, iso_extended, parse_http_date, parse_iso_basic
from .errors import S3Error
from .sigv4_core import (
    EMPTY_SHA256,
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    SignedHeaders,
    SigningKey,
    canonical_request,
    signed_headers,
    signing_key,
    string_to_sign,
)
from .target import Query, Target

__all__ = [
    "Anonymous",
    "Claim",
    "Payload",
    "PayloadMode",
    "SignedParts",
    "SigningKey",
    "parse",
    "signing_key",
    "verify",
]


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
    scope: str
    signature: str
    payload: Payload
    presigned: bool
    canonical: bytes
    text: bytes


class SignedParts(msgspec.Struct, frozen=True, gc=False):
    """What a signature covers, but for the body. `headers` has the first value of each name,
    `repeated` all fields in order where some name occurs more than once.
    """

    method: str
    target: Target
    query: Query
    headers: Mapping[bytes, bytes]
    repeated: Sequence[tuple[bytes, bytes]] = ()


def parse(parts: SignedParts, *, region: str, now: float) -> Claim | Anonymous:
    """Read the credentials of a request. `now` is seconds since the epoch.

    Raises: S3Error with the code S3 gives for each way in which credentials can be wrong.
    """
    query = parts.query
    authorization = parts.headers.get(b"authorization")
    if query and ("X-Amz-Algorithm" in query or "X-Amz-Signature" in query):
        if authorization is not None:
            raise S3Error("InvalidArgument", _ONE_MECHANISM, ArgumentName="Authorization")
        return _parse_presigned(parts, region, now)
    if authorization is not None:
        return _parse_header(parts, authorization, region, now)
    if query and "Signature" in query and "AWSAccessKeyId" in query:
        raise S3Error("InvalidRequest", _ONLY_V4)
    payload = _payload(parts.headers.get(b"x-amz-content-sha256"))
    if payload.mode.signed_chunks:
        raise S3Error("AccessDenied", "A signed body needs a signed request.")
    return Anonymous(payload)


def verify(claim: Claim, key: SigningKey) -> None:
    """Check the signature with the signing key of the claim's date and region.

    Raises: S3Error SignatureDoesNotMatch, with what was signed so that a client can compare.
    """
    if not hmac.compare_digest(key.sign(claim.text), claim.signature):
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


class _Terms(msgspec.Struct, frozen=True, gc=False):
    """What an Authorization header says before its signature: the same in request after request.

    `signed` is None where the names are not well-formed.
    """

    credential: _Credential
    signed: SignedHeaders | None


def _parse_header(parts: SignedParts, authorization: bytes, region: str, now: float) -> Claim:
    terms, signature = _terms_of(authorization)
    credential = terms.credential
    headers = parts.headers
    timestamp, second = _request_time(headers)
    if timestamp[:8] != credential.date_bytes:
        _header_malformed(
            f'Invalid credential date "{credential.date}". This date is not the same as '
            f'X-Amz-Date: "{timestamp[:8].decode()}".'
        )
    if credential.region != region:
        _refuse_region(credential.region, region, "AuthorizationHeaderMalformed", "header")
    if abs(now - second) > CLOCK_SKEW_S_MAX:
        raise S3Error(
            "RequestTimeTooSkewed",
            RequestTime=timestamp,
            ServerTime=iso_extended(int(now) * 1000),
            MaxAllowedSkewMilliseconds=CLOCK_SKEW_S_MAX * 1000,
        )
    if not _is_digest(signature):
        _header_malformed("the Signature is mal-formed.")
    if (content_hash := headers.get(b"x-amz-content-sha256")) is None:
        raise S3Error(
            "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    payload = _payload(content_hash)
    signed = terms.signed
    if signed is None:
        _header_malformed("SignedHeaders is mal-formed.")
    _check_signed(signed, headers)
    if b"x-amz-security-token" in headers:
        _refuse_token(headers[b"x-amz-security-token"])
    return _claim(parts, signed, credential, timestamp, signature, payload, presigned=False)


def _terms_of(authorization: bytes) -> tuple[_Terms, bytes]:
    """The header taken apart: what comes before the signature is taken apart once."""
    if authorization[_SIGNATURE_AT:-_DIGEST_DIGITS] == _SIGNATURE:
        return _terms(authorization[:_SIGNATURE_AT]), authorization[-_DIGEST_DIGITS:]
    # The signature need not come last, and may be none.
    credential, signed, signature = _authorization_parts(authorization)
    return _Terms(_credential(credential, _header_malformed), signed_headers(signed)), signature


@lru_cache(maxsize=1024)
def _terms(start: bytes) -> _Terms:
    """The terms of every header that begins so and ends with a signature."""
    credential, signed, _ = _authorization_parts(start + _SIGNATURE + b"-")
    return _Terms(_credential(credential, _header_malformed), signed_headers(signed))


def _authorization_parts(authorization: bytes) -> tuple[bytes, bytes, bytes]:
    """Credential, SignedHeaders and Signature, with or without blanks after the commas."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme != b"AWS4-HMAC-SHA256":
        _refuse_scheme(scheme)
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


def _request_time(headers: Mapping[bytes, bytes]) -> tuple[bytes, int]:
    """x-amz-date, or else Date, as `(yyyymmddThhmmssZ, epoch seconds)`."""
    value = headers.get(b"x-amz-date")
    second = _header_second(headers.get(b"date", b"")) if value is None else _amz_second(value)
    if second is None:
        raise S3Error(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    return iso_basic(second).encode() if value is None else value, second


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


def _parse_presigned(parts: SignedParts, region: str, now: float) -> Claim:
    query = parts.query
    values = [query.raw(name) or b"" for name in _PRESIGNED_PARTS]
    algorithm, raw_credential, signature, timestamp, names, expires = values
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
    credential = _credential(raw_credential, _query_malformed)
    second = _amz_second(timestamp)
    if second is None:
        _query_malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if timestamp[:8] != credential.date_bytes:
        _query_malformed(
            f'Invalid credential date "{credential.date}". This date is not the same as '
            f'X-Amz-Date: "{timestamp[:8].decode()}".'
        )
    if credential.region != region:
        _refuse_region(credential.region, region, "AuthorizationQueryParametersError", "query")
    _check_expiry(second, expires, now)
    if not _is_digest(signature):
        _query_malformed("X-Amz-Signature is not well-formed.")
    signed = signed_headers(names)
    if signed is None:
        _query_malformed("SignedHeaders is mal-formed.")
    _check_signed(signed, parts.headers)
    _refuse_token(query.raw("X-Amz-Security-Token"))
    content_hash = query.raw("X-Amz-Content-Sha256") or parts.headers.get(b"x-amz-content-sha256")
    payload = _payload(content_hash)
    if payload.mode.streaming:
        raise S3Error("InvalidRequest", "A presigned request cannot have an aws-chunked body.")
    return _claim(parts, signed, credential, timestamp, signature, payload, presigned=True)


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
    parts: SignedParts,
    signed: SignedHeaders,
    credential: _Credential,
    timestamp: bytes,
    signature: bytes,
    payload: Payload,
    *,
    presigned: bool,
) -> Claim:
    if parts.repeated:
        canonical = canonical_request(
            parts.method, parts.target, parts.repeated, signed.names, payload.text
        )
    else:
        canonical = signed.canonical_request(
            parts.method, parts.target, parts.headers, payload.text.encode()
        )
    return Claim(
        credential.access_key,
        credential.date,
        credential.region,
        timestamp.decode(),
        credential.scope,
        signature.decode(),
        payload,
        presigned,
        canonical,
        string_to_sign(timestamp, credential.scope_bytes, canonical),
    )


class _Credential(msgspec.Struct, frozen=True, gc=False):
    """`KEY/yyyymmdd/region/s3/aws4_request`, and what follows from it."""

    access_key: str
    date: str
    region: str
    scope: str
    date_bytes: bytes
    scope_bytes: bytes


@lru_cache(maxsize=256)
def _credential(raw: bytes, malformed: Callable[[str], NoReturn]) -> _Credential:
    """Take a credential apart; a key may hold `/`."""
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
    scope = f"{date}/{region}/{SERVICE}/{TERMINATOR}"
    return _Credential(access_key, date, region, scope, date.encode(), scope.encode("latin-1"))


def _refuse_region(claimed: str, region: str, code: str, where: str) -> NoReturn:
    raise S3Error(
        code,
        f"The authorization {where} is malformed; the region '{claimed}' is wrong; expecting "
        f"'{region}'",
        Region=region,
    )


def _check_signed(signed: SignedHeaders, headers: Mapping[bytes, bytes]) -> None:
    """Host and every x-amz-* header that the request has must be among the signed ones."""
    listed = signed.listed
    missing = [] if b"host" in listed else [b"host"]
    for name in headers:
        if name not in listed and name.startswith(b"x-amz-"):
            missing.append(name)
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=b", ".join(missing),
        )


# Caches: the same few values come with every request of a client, in the same second.
_amz_second = lru_cache(maxsize=256)(parse_iso_basic)
_header_second = lru_cache(maxsize=256)(parse_http_date)


def _is_digest(value: bytes) -> bool:
    """Whether it looks like a SHA-256 in lower-case hexadecimal digits."""
    return len(value) == _DIGEST_DIGITS and not value.translate(None, b"0123456789abcdef")


def _refuse_token(token: bytes | None) -> None:
    # There are no temporary credentials: a token beside a lasting key is never valid.
    if token:
        raise S3Error("InvalidToken", Token_0=token)


def _payload(value: bytes | None) -> Payload:
    if value is None or value == b"UNSIGNED-PAYLOAD":
        return _UNSIGNED
    if value == _EMPTY_HASH:
        return _EMPTY
    if _is_digest(value):
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
_EMPTY = Payload(PayloadMode.SHA256, EMPTY_SHA256)
_EMPTY_HASH = EMPTY_SHA256.encode()
_STREAMING = {mode.value: Payload(mode, mode.value) for mode in PayloadMode if mode.streaming}
_DATE = re.compile(r"[0-9]{8}")
_DIGEST_DIGITS = 64
_SIGNATURE = b"Signature="
_SIGNATURE_AT = -_DIGEST_DIGITS - len(_SIGNATURE)
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
