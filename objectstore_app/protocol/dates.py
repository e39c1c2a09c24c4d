"""Dates on the wire: HTTP dates, ISO 8601 basic (SigV4) and extended (XML).

All times are whole seconds or milliseconds since the epoch, in UTC. Locale plays no part: names of
days and months come from tables. Source: RFC 9110, 5.6.7; AWS SigV4; S3's XML schemas.
"""

from __future__ import annotations

import calendar
import re
import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.encode(): index for index, name in enumerate(_MONTHS, 1)}

_IMF = re.compile(
    rb"[A-Za-z]{3}, ([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) "
    rb"(?:GMT|UTC|[+-]0000)"
)
_RFC850 = re.compile(
    rb"[A-Za-z]{6,9}, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_ASCTIME = re.compile(
    rb"[A-Za-z]{3} ([A-Z][a-z]{2}) ([0-9 ][0-9]) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})"
)
_BASIC = re.compile(rb"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_EXTENDED = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?Z"
)


@lru_cache(maxsize=4096)
def http_date(second: int) -> str:
    """`Sun, 06 Nov 1994 08:49:37 GMT`."""
    t = time.gmtime(second)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )


def parse_http_date(value: bytes) -> int | None:
    """Seconds since the epoch of any of HTTP's three forms (or ISO 8601), None if it is no date."""
    if match := _IMF.fullmatch(value):
        day, month, year, *clock = match.groups()
    elif match := _RFC850.fullmatch(value):
        day, month, year, *clock = match.groups()
        # RFC 9110: two digits that would lie more than 50 years ahead mean the past century.
        this_year = time.gmtime().tm_year
        full = this_year - this_year % 100 + int(year)
        year = b"%d" % (full - 100 if full > this_year + 50 else full)
    elif match := _ASCTIME.fullmatch(value):
        month, day, *clock, year = match.groups()
    else:
        return parse_iso_extended(value) if value[4:5] == b"-" else parse_iso_basic(value)
    if month not in _MONTH_NUMBERS:
        return None
    return _epoch(int(year), _MONTH_NUMBERS[month], int(day), *map(int, clock))


def iso_basic(second: int) -> str:
    """`20130524T000000Z`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def parse_iso_basic(value: bytes) -> int | None:
    match = _BASIC.fullmatch(value)
    return None if match is None else _epoch(*map(int, match.groups()))


# What iso_extended is put together of: small tables, for a page of a listing holds a thousand dates
# and whatever does not stay in the processor's cache costs more than the arithmetic.
MINUTES = [f"{minute:02d}:" for minute in range(60)]
SECONDS = [f"{second:02d}." for second in range(60)]
MILLISECONDS = [f"{ms:03d}Z" for ms in range(1000)]
_ISO_HOURS_KEPT = 50_000


class _IsoHours(dict[int, str]):
    """`2009-10-12T17:` of hours since the epoch, kept as they are asked for."""

    def __missing__(self, hour: int) -> str:
        if len(self) >= _ISO_HOURS_KEPT:
            self.clear()
        text = self[hour] = time.strftime("%Y-%m-%dT%H:", time.gmtime(hour * 3600))
        return text


ISO_HOURS = _IsoHours()


def iso_extended(ms: int) -> str:
    """`2009-10-12T17:50:30.000Z` of milliseconds since the epoch."""
    hour, rest = divmod(ms, 3_600_000)
    minute, second = MINUTES[rest // 60_000], SECONDS[rest // 1000 % 60]
    return f"{ISO_HOURS[hour]}{minute}{second}{MILLISECONDS[rest % 1000]}"


def parse_iso_extended(value: bytes) -> int | None:
    """Whole seconds since the epoch; a fraction is dropped."""
    match = _EXTENDED.fullmatch(value)
    return None if match is None else _epoch(*map(int, match.groups()))


def _epoch(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    if not (
        1970 <= year <= 9999
        and 1 <= month <= 12
        and 1 <= day <= calendar.monthrange(year, month)[1]
        and hour < 24
        and minute < 60
        and second <= 60
    ):
        return None
    return calendar.timegm((year, month, day, hour, minute, second))
