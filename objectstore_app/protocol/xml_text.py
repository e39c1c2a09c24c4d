"""Text for XML documents: escaping that survives every byte a key or message may hold.

XML 1.0 cannot hold most control characters nor U+FFFE and U+FFFF, not even as references. They
become U+FFFD here; a client that needs such keys back asks for `encoding-type=url`. CR is written
as `&#13;`, since a parser would turn it into LF. Source: W3C XML 1.0, 2.2 and 2.11.
"""

from __future__ import annotations

import re
from urllib.parse import quote

XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'

_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\x7f": "\x7f"}


def escape(value: str | int | bytes) -> str:
    """Character data (or an attribute in double quotes) for `value`; bytes are read as UTF-8."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, int):
        return str(value)
    if _SPECIAL.search(value) is None:
        return value
    return _SPECIAL.sub(_reference, value)


def url_encode(value: str | bytes) -> str:
    """`encoding-type=url`: percent-encoding that keeps `/` and the unreserved characters."""
    return quote(value, safe="/-_.~*")


def _reference(match: re.Match[str]) -> str:
    return _REFERENCES.get(match.group(), "�")
