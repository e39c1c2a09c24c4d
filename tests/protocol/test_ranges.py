"""Byte ranges of reads and copies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.ranges import ByteRange, parse_copy_range, parse_range


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=2-5", (2, 4)),
        (b"bytes=2-", (2, 8)),
        (b"bytes=-3", (7, 3)),
        (b"bytes=-30", (0, 10)),
        (b"bytes=0-99999999999999", (0, 10)),
        (b"bytes=9-9", (9, 1)),
        (b"Bytes = 1-2", (1, 2)),
    ],
)
def test_ranges_of_ten_bytes(value: bytes, expected: tuple[int, int]) -> None:
    assert parse_range(value, 10) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"bytes=",
        b"bytes=-",
        b"bytes=5-2",
        b"bytes=a-b",
        b"lines=0-1",
        b"bytes=0-1,3-4",
        b"0-1",
        b"bytes=0x0-1",
        b"bytes=+1-2",
        b"bytes=1-2-3",
        b"bytes=" + b"9" * 30 + b"-",
    ],
)
def test_malformed_and_several_ranges_mean_the_whole(value: bytes | None) -> None:
    assert parse_range(value, 10) is None


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (b"bytes=10-", 10),
        (b"bytes=10-20", 10),
        (b"bytes=-0", 10),
        (b"bytes=0-", 0),
        (b"bytes=0-0", 0),
        (b"bytes=-5", 0),
    ],
)
def test_what_does_not_exist_cannot_be_satisfied(value: bytes, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        parse_range(value, size)
    assert (caught.value.code, caught.value.status) == ("InvalidRange", 416)
    assert caught.value.headers == [("Content-Range", f"bytes */{size}")]


@settings(max_examples=100, deadline=None)
@given(first=st.integers(0, 30), last=st.integers(0, 30), size=st.integers(1, 20))
def test_ranges_agree_with_slices(first: int, last: int, size: int) -> None:
    data = bytes(range(size))
    if first > last or first >= size:
        return
    found = parse_range(b"bytes=%d-%d" % (first, last), size)
    assert found is not None
    assert data[found.start : found.start + found.length] == data[first : last + 1]


def test_content_range() -> None:
    assert ByteRange(2, 4).content_range(10) == "bytes 2-5/10"


def test_copy_ranges_must_lie_inside() -> None:
    assert parse_copy_range(b"bytes=0-9", 10) == (0, 10)
    for value in (b"bytes=0-10", b"bytes=5-4", b"bytes=0-", b"bytes=-3", b"0-3", b"bytes=a-b", b""):
        with pytest.raises(S3Error) as caught:
            parse_copy_range(value, 10)
        assert caught.value.code == "InvalidArgument"
