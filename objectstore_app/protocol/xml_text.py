"""Text for XML documents: escaping that survives every byte a key or message may hold.

XML 1.0 cannot hold most control characters nor U+FFFE and U+FFFF, not even as references. They
become U+FFFD here; a client that needs such keys back asks for `encoding-type=url`. CR is written
as `&#13;`, since a parser would turn it into LF. Source: W3C XML 1.0, 2.2 and 2.11.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'

_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\x7f": "\x7f"}

_PLAIN_IN_URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-_.~*"
_URL_TEXTS = [chr(one) if one in _PLAIN_IN_URL else f"%{one:02X}" for one in range(256)]
# Bytes of UTF-8 that occur in no special character. 0xED begins surrogates, 0xEF U+FFFE and U+FFFF.
_PLAIN_IN_XML = b"\t\n" + bytes(one for one in range(0x20, 0x100) if one not in b'&<>"\xed\xef')
_PLAIN_IN_URL_OR_NUL = _PLAIN_IN_URL + b"\0"
_PLAIN_IN_XML_OR_NUL = _PLAIN_IN_XML + b"\0"


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
    if isinstance(value, str):
        value = value.encode()
    return value.decode("latin-1").translate(_URL_TEXTS)


def writer_of_keys(keys: Iterable[bytes], *, url: bool) -> Callable[[bytes], str]:
    """What writes each of these keys into a document. As a rule none of them holds what has to be
    replaced, which is found out here, for all of them at once.
    """
    joined = b"".join(keys)
    if joined.translate(None, _PLAIN_IN_URL if url else _PLAIN_IN_XML):
        return url_encode if url else escape
    return bytes.decode if joined.isascii() else _decode


def join_keys(keys: Sequence[bytes], between: str, *, url: bool) -> str:
    """The texts of these keys, none of which holds NUL, with something between them."""
    joined = b"\0".join(keys)
    if joined.translate(None, _PLAIN_IN_URL_OR_NUL if url else _PLAIN_IN_XML_OR_NUL):
        return between.join(map(url_encode if url else escape, keys))
    return _decode(joined).replace("\0", between)


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _reference(match: re.Match[str]) -> str:
    return _REFERENCES.get(match.group(), "�")
