"""Byte ranges of reads and of copied parts, as S3 reads them.

One range only; what is malformed, of another unit or names several ranges is ignored, and the whole
object is served. Source: RFC 9110, 14; AWS, GetObject and UploadPartCopy.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import S3Error

_RANGE = re.compile(
    rb"bytes[ \t]*=[ \t]*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.IGNORECASE
)
_COPY_RANGE = re.compile(rb"bytes=([0-9]{1,19})-([0-9]{1,19})")


class ByteRange(NamedTuple):
    """`length` is at least 1."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The value of Content-Range for an object of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(value: bytes | None, size: int) -> ByteRange | None:
    """The range of an object of `size` bytes; None means the whole of it.

    Raises: S3Error InvalidRange (with its Content-Range header) when nothing of it exists.
    """
    match = _RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        if length:
            return ByteRange(size - length, length)
    else:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
        if start < size:
            return ByteRange(start, end - start + 1)
    raise S3Error(
        "InvalidRange",
        headers=[("Content-Range", f"bytes */{size}")],
        RangeRequested=value or b"",
        ActualObjectSize=size,
    )


def parse_copy_range(value: bytes, size: int) -> ByteRange:
    """x-amz-copy-source-range: `bytes=FIRST-LAST`, wholly inside the source.

    Raises: S3Error InvalidArgument.
    """
    match = _COPY_RANGE.fullmatch(value.strip())
    if match is None:
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    first, last = int(match.group(1)), int(match.group(2))
    if first > last or last >= size:
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    return ByteRange(first, last - first + 1)
