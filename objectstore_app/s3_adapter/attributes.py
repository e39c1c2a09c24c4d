"""An object's attributes between S3's headers and ours: the one place that maps their names."""

from __future__ import annotations

from ..core.ids import NULL_VERSION
from ..core.limits import USER_METADATA_BYTES_MAX
from ..metadata_service.api import Attributes, ObjectVersion, Written
from ..protocol import acl
from ..protocol.checksums import Algorithm
from ..protocol.dates import http_date
from ..protocol.errors import S3Error
from .call import Call, Headers

CONTENT_TYPE_DEFAULT = "binary/octet-stream"

_USER_PREFIX = b"x-amz-meta-"
_SYSTEM_HEADERS = {
    b"cache-control": "Cache-Control",
    b"content-disposition": "Content-Disposition",
    b"content-encoding": "Content-Encoding",
    b"content-language": "Content-Language",
    b"content-type": "Content-Type",
    b"expires": "Expires",
}
_SHOWN_NAMES = {name.decode(): shown for name, shown in _SYSTEM_HEADERS.items()}
_OVERRIDES = {
    f"response-{name.decode()}": (name.decode(), shown) for name, shown in _SYSTEM_HEADERS.items()
}
_CHECKSUM_HEADERS = {algorithm.value: algorithm.header for algorithm in Algorithm}


NO_ATTRIBUTES = Attributes()


def attributes_of(call: Call) -> Attributes:
    """What the request's headers say about the object to be written.

    Raises: S3Error MetadataTooLarge, InvalidArgument (unknown canned ACL).
    """
    system: dict[str, str] = {}
    user: dict[str, str] = {}
    user_bytes = 0
    for name, value in call.notable():
        if name in _SYSTEM_HEADERS:
            system[name.decode()] = value.decode("latin-1")
        elif name.startswith(_USER_PREFIX):
            short = name[len(_USER_PREFIX) :]
            user_bytes += len(short) + len(value)
            user[short.decode("latin-1")] = value.decode("latin-1")
    if user_bytes > USER_METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", Size=user_bytes, MaxSizeAllowed=USER_METADATA_BYTES_MAX)
    if "content-encoding" in system:
        _strip_aws_chunked(system)
    asked = call.text(b"x-amz-acl")
    if not (system or user or asked):
        return NO_ATTRIBUTES
    return Attributes(headers=system, user=user, acl=acl.parse_canned(asked, of_bucket=False))


def _strip_aws_chunked(system: dict[str, str]) -> None:
    """`aws-chunked` describes the transfer, not the object."""
    codings = [coding.strip() for coding in system["content-encoding"].split(",")]
    kept = ", ".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")
    if kept:
        system["content-encoding"] = kept
    else:
        del system["content-encoding"]


def object_headers(call: Call, version: ObjectVersion, *, named: bool) -> Headers:
    """A read's headers but for length, range and checksum. `named`: a version id was asked for.

    Raises: S3Error InvalidRequest for response-* overrides of an unsigned request.
    """
    attributes = version.attributes
    stored = attributes.headers
    if call.location.query:
        stored = _overridden(call, stored)
    headers = [
        ("Last-Modified", http_date(version.modified_ms // 1000)),
        ("ETag", f'"{version.etag}"'),
        ("Accept-Ranges", "bytes"),
    ]
    if "content-type" not in stored:
        headers.append(("Content-Type", CONTENT_TYPE_DEFAULT))
    for name, value in stored.items():
        headers.append((_SHOWN_NAMES[name], value))
    for name, value in attributes.user.items():
        headers.append((f"x-amz-meta-{name}", value))
    if named or version.version_id != NULL_VERSION:
        headers.append(("x-amz-version-id", version.version_id))
    return headers


def _overridden(call: Call, stored: dict[str, str]) -> dict[str, str]:
    query = call.location.query
    changed = dict(stored)
    for name in query.names():
        override = _OVERRIDES.get(name)
        if override is None:
            continue
        if call.user is None:
            raise S3Error(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        value = query.text(name) or ""
        if not value.isprintable() or max(value, default="") > "\xff":
            raise S3Error(
                "InvalidArgument",
                "Header value cannot be represented using ISO-8859-1.",
                ArgumentName=name,
                ArgumentValue=value,
            )
        changed[override[0]] = value
    return changed


def version_headers(written: Written) -> Headers:
    """The id of a version just written; S3 tells none for the null version."""
    if written.version_id in ("", NULL_VERSION):
        return []
    return [("x-amz-version-id", written.version_id)]


def checksum_headers(checksums: dict[str, str], kind: str = "") -> Headers:
    """`x-amz-checksum-*` of each algorithm, and the type where one is given."""
    headers = [(_CHECKSUM_HEADERS[name], value) for name, value in checksums.items()]
    if headers and kind:
        headers.append(("x-amz-checksum-type", kind))
    return headers
