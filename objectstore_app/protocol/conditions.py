"""Conditional requests: reads, copy sources, and the conditions of writes.

S3 follows RFC 9110's precedence: If-Match decides before If-Unmodified-Since, If-None-Match before
If-Modified-Since. For a copy's source every condition that does not hold is 412. Conditions of
writes are parsed only; the metadata service decides them in its order. Source: RFC 9110, 13; AWS,
GetObject, CopyObject, "Conditional writes".
"""

from __future__ import annotations

from dataclasses import dataclass

from .dates import http_date, parse_http_date
from .errors import S3Error

Fields = dict[bytes, bytes]
"""A request's headers by lower-cased name."""


_CONDITIONS = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
)


def check_read(fields: Fields, etag: str, modified_ms: int) -> None:
    """Let a read of this version go on, or raise S3Error NotModified or PreconditionFailed.

    `etag` is without quotes.
    """
    if _CONDITIONS.isdisjoint(fields):
        return
    modified_s = modified_ms // 1000
    if failed := _failed_precondition(fields, b"", etag, modified_s):
        raise S3Error("PreconditionFailed", Condition=failed)
    if _not_modified(fields, b"", etag, modified_s):
        raise S3Error(
            "NotModified",
            headers=[("ETag", f'"{etag}"'), ("Last-Modified", http_date(modified_s))],
        )


def check_copy_source(fields: Fields, etag: str, modified_ms: int) -> None:
    """The x-amz-copy-source-if-* conditions. Raises: S3Error PreconditionFailed."""
    modified_s = modified_ms // 1000
    prefix = b"x-amz-copy-source-"
    failed = _failed_precondition(fields, prefix, etag, modified_s) or _not_modified(
        fields, prefix, etag, modified_s
    )
    if failed:
        raise S3Error("PreconditionFailed", Condition=failed)


def range_applies(if_range: bytes | None, etag: str, modified_ms: int) -> bool:
    """Whether If-Range (an ETag or a date) lets the Range header count."""
    if if_range is None:
        return True
    if b'"' in if_range or if_range == etag.encode():
        return _matches(if_range, etag, weak=False)
    second = parse_http_date(if_range)
    return second is not None and second == modified_ms // 1000


@dataclass(frozen=True, slots=True)
class WriteConditions:
    """ETags without quotes, `*` for any object, empty where not given."""

    if_match: str = ""
    if_none_match: str = ""


UNCONDITIONAL = WriteConditions()


def parse_write(fields: Fields, *, deleting: bool = False) -> WriteConditions:
    """The conditions of a PUT, a completion or (`deleting`) a delete.

    Raises: S3Error NotImplemented for those that S3 does not take there, InvalidArgument.
    """
    if _CONDITIONS.isdisjoint(fields):
        return UNCONDITIONAL
    if_match = fields.get(b"if-match")
    if_none_match = fields.get(b"if-none-match")
    for name in (b"if-modified-since", b"if-unmodified-since"):
        if name in fields:
            raise S3Error("NotImplemented", Header=name)
    if if_none_match is not None and (deleting or if_none_match != b"*" or if_match is not None):
        raise S3Error("NotImplemented", Header="If-None-Match")
    if if_match is None:
        return WriteConditions(if_none_match="*" if if_none_match else "")
    etag = if_match.decode("latin-1").strip('"')
    if not etag or "," in etag:
        raise S3Error(
            "InvalidArgument",
            "If-Match takes one ETag.",
            ArgumentName="If-Match",
            ArgumentValue=if_match,
        )
    return WriteConditions(if_match=etag)


def _failed_precondition(fields: Fields, prefix: bytes, etag: str, modified_s: int) -> str:
    """The name of the condition that does not hold (412), or nothing."""
    value = fields.get(prefix + b"if-match")
    if value is not None:
        return "" if _matches(value, etag, weak=False) else "If-Match"
    value = fields.get(prefix + b"if-unmodified-since")
    if value is not None:
        second = parse_http_date(value)
        if second is not None and modified_s > second:
            return "If-Unmodified-Since"
    return ""


def _not_modified(fields: Fields, prefix: bytes, etag: str, modified_s: int) -> str:
    """The name of the condition that says the client has this version already, or nothing."""
    value = fields.get(prefix + b"if-none-match")
    if value is not None:
        return "If-None-Match" if _matches(value, etag, weak=True) else ""
    value = fields.get(prefix + b"if-modified-since")
    if value is not None:
        second = parse_http_date(value)
        if second is not None and modified_s <= second:
            return "If-Modified-Since"
    return ""


def _matches(value: bytes, etag: str, *, weak: bool) -> bool:
    """Whether a list of ETags (quoted or, as some clients send them, bare) names this one."""
    for item in value.decode("latin-1").split(","):
        candidate = item.strip()
        if candidate == "*":
            return True
        if candidate.startswith("W/"):
            if not weak:
                continue
            candidate = candidate[2:]
        if candidate.strip('"') == etag:
            return True
    return False
