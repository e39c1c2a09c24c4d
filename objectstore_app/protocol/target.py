"""The request target taken apart: path, query, percent-encoding. Shared by routing and signatures.

Strict: a percent sign must be followed by two hexadecimal digits, there is no fragment, and nothing
is normalised: `.`, `..` and `//` are bytes of a key like any other. `+` in a query is a space, as
HTML forms have it and S3 reads it; in a path it is a plus. Source: RFC 3986; RFC 9112, 3.2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

import msgspec

from .errors import S3Error

QUERY_PAIRS_MAX = 256

_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)")


class Target(msgspec.Struct, frozen=True, gc=False):
    """Raw parts of a target; `authority` is set only for the absolute form (`http://host/path`)."""

    path: bytes
    query: bytes
    authority: bytes = b""


def split_target(target: bytes) -> Target:
    """Raises: S3Error InvalidURI for what is neither an origin form nor an absolute form."""
    if b"#" in target:
        raise S3Error("InvalidURI", "The request target must not have a fragment.")
    path, _, query = target.partition(b"?")
    if path[:1] == b"/":
        return Target(path, query)
    match = _ABSOLUTE.match(target)
    if match is None:
        raise S3Error("InvalidURI")
    rest = target[match.end() :]
    path, _, query = (rest if rest[:1] == b"/" else b"/" + rest).partition(b"?")
    return Target(path, query, match.group(1))


def percent_decode(raw: bytes) -> bytes:
    """Raises: S3Error InvalidURI when a percent sign is not followed by two hex digits."""
    if b"%" not in raw:
        return raw
    if _BAD_PERCENT.search(raw) is not None:
        raise S3Error("InvalidURI")
    return unquote_to_bytes(raw)


# A credential comes with every presigned request of a client.
_decoded_value = lru_cache(maxsize=256)(percent_decode)


def uri_encode(value: bytes, safe: str = "") -> str:
    """AWS's UriEncode: every byte but the unreserved ones (and `safe`) as `%XX`."""
    return quote(value, safe="-_.~" + safe)


class Query(dict[str, bytes]):
    """The query's parameters, decoded. Where a name is repeated the first value counts."""

    __slots__ = ()

    def __init__(self, raw: bytes) -> None:
        """Raises: S3Error InvalidURI (bad percent-encoding, too many parameters)."""
        super().__init__()
        if not raw:
            return
        if raw.count(b"&") >= QUERY_PAIRS_MAX:
            raise S3Error("InvalidURI", "The request has too many query parameters.")
        for part in raw.replace(b"+", b" ").split(b"&"):
            if not part:
                continue
            name, _, value = part.partition(b"=")
            if b"%" in part:
                name, value = percent_decode(name), _decoded_value(value)
            self.setdefault(name.decode("latin-1"), value)

    def names(self) -> list[str]:
        return list(self)

    def raw(self, name: str) -> bytes | None:
        """The value's bytes (keys, prefixes, markers), None where the parameter is missing."""
        return self.get(name)

    def text(self, name: str) -> str | None:
        """The value as text. Raises: S3Error InvalidArgument when it is not UTF-8."""
        value = self.get(name)
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise S3Error(
                "InvalidArgument",
                f"The value of {name} is not valid UTF-8.",
                ArgumentName=name,
            ) from error

    def key(self, name: str) -> bytes:
        """A key, prefix, marker or delimiter; `b""` where missing.

        Raises: S3Error InvalidArgument when it is not UTF-8 or holds NUL.
        """
        value = self.get(name, b"")
        self.text(name)
        if b"\0" in value:
            raise S3Error(
                "InvalidArgument", f"The value of {name} holds a NUL byte.", ArgumentName=name
            )
        return value

    def integer(self, name: str, default: int, maximum: int, *, minimum: int = 0) -> int:
        """A whole number, `default` where missing or empty, at most `maximum` (clipped).

        Raises: S3Error InvalidArgument when it is no number or is less than `minimum`.
        """
        value = self.get(name)
        if not value:
            return default
        if not value.isdigit() or len(value) > 10:
            raise S3Error(
                "InvalidArgument",
                f"Provided {name} not an integer or within integer range",
                ArgumentName=name,
                ArgumentValue=value,
            )
        number = int(value)
        if number < minimum or number > 2**31 - 1:
            raise S3Error(
                "InvalidArgument",
                f"Argument {name} must be an integer between {minimum} and {2**31 - 1}",
                ArgumentName=name,
                ArgumentValue=value,
            )
        return min(number, maximum)


NO_QUERY = Query(b"")
