"""HTTP dates and ISO 8601."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol.dates import (
    http_date,
    iso_basic,
    iso_extended,
    parse_http_date,
    parse_iso_basic,
    parse_iso_extended,
)

SECONDS = st.integers(0, 253402300799)


@settings(max_examples=100, deadline=None)
@given(SECONDS)
def test_dates_survive_writing_and_reading(second: int) -> None:
    assert parse_http_date(http_date(second).encode()) == second
    assert parse_iso_basic(iso_basic(second).encode()) == second
    assert parse_iso_extended(iso_extended(second * 1000 + 7).encode()) == second


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun, 6 Nov 1994 08:49:37 +0000",
        b"1994-11-06T08:49:37Z",
        b"1994-11-06T08:49:37.123Z",
        b"19941106T084937Z",
    ],
)
def test_all_forms_of_a_date(value: bytes) -> None:
    assert parse_http_date(value) == 784111777


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 25:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 CET",
        b"19941306T084937Z",
        b"19940006T084937Z",
        b"1994-11-06",
        b"00000000T000000Z",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"19941106T084937Z\n",
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert parse_http_date(value) is None


def test_extended_form_has_milliseconds() -> None:
    assert iso_extended(1255369830007) == "2009-10-12T17:50:30.007Z"
