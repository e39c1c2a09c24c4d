"""Conditional reads, copy sources, and the parsing of write conditions."""

from __future__ import annotations

import pytest

from objectstore_app.protocol.conditions import (
    WriteConditions,
    check_copy_source,
    check_read,
    parse_write,
    range_applies,
)
from objectstore_app.protocol.errors import S3Error

ETAG = "abc"
MODIFIED_MS = 784111777_500
SAME = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = b"Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = b"Sun, 06 Nov 1994 08:49:38 GMT"


def outcome(prefix: bytes = b"", **fields: bytes) -> int:
    named = {prefix + name.replace("_", "-").encode(): value for name, value in fields.items()}
    check = check_copy_source if prefix else check_read
    try:
        check(named, ETAG, MODIFIED_MS)
    except S3Error as error:
        return error.status
    return 200


CASES: list[tuple[dict[str, bytes], int]] = [
    ({}, 200),
    ({"if_match": b'"abc"'}, 200),
    ({"if_match": b"abc"}, 200),
    ({"if_match": b"*"}, 200),
    ({"if_match": b'"x", "abc"'}, 200),
    ({"if_match": b'"x"'}, 412),
    ({"if_match": b'W/"abc"'}, 412),
    ({"if_none_match": b'"abc"'}, 304),
    ({"if_none_match": b'W/"abc"'}, 304),
    ({"if_none_match": b"*"}, 304),
    ({"if_none_match": b'"x"'}, 200),
    ({"if_modified_since": BEFORE}, 200),
    ({"if_modified_since": SAME}, 304),
    ({"if_modified_since": AFTER}, 304),
    ({"if_modified_since": b"yesterday"}, 200),
    ({"if_unmodified_since": BEFORE}, 412),
    ({"if_unmodified_since": SAME}, 200),
    ({"if_unmodified_since": b"never"}, 200),
    ({"if_match": b'"abc"', "if_unmodified_since": BEFORE}, 200),
    ({"if_match": b'"x"', "if_unmodified_since": AFTER}, 412),
    ({"if_none_match": b'"abc"', "if_modified_since": BEFORE}, 304),
    ({"if_none_match": b'"x"', "if_modified_since": AFTER}, 200),
    ({"if_match": b'"x"', "if_none_match": b'"abc"'}, 412),
    ({"if_match": b'"abc"', "if_none_match": b'"abc"'}, 304),
]


@pytest.mark.parametrize(("fields", "status"), CASES)
def test_reads(fields: dict[str, bytes], status: int) -> None:
    assert outcome(**fields) == status


@pytest.mark.parametrize(("fields", "status"), CASES)
def test_copy_sources_refuse_instead_of_not_modified(fields: dict[str, bytes], status: int) -> None:
    assert outcome(b"x-amz-copy-source-", **fields) == (412 if status == 304 else status)


def test_not_modified_carries_the_validators() -> None:
    with pytest.raises(S3Error) as caught:
        check_read({b"if-none-match": b"*"}, ETAG, MODIFIED_MS)
    assert caught.value.headers == [("ETag", '"abc"'), ("Last-Modified", SAME.decode())]


def test_if_range() -> None:
    assert range_applies(None, ETAG, MODIFIED_MS)
    assert range_applies(b'"abc"', ETAG, MODIFIED_MS)
    assert range_applies(SAME, ETAG, MODIFIED_MS)
    for other in (b'"x"', b'W/"abc"', BEFORE, AFTER, b"junk"):
        assert not range_applies(other, ETAG, MODIFIED_MS)


def test_write_conditions() -> None:
    assert parse_write({}) == WriteConditions()
    assert parse_write({b"if-none-match": b"*"}) == WriteConditions(if_none_match="*")
    assert parse_write({b"if-match": b'"abc"'}) == WriteConditions(if_match="abc")
    assert parse_write({b"if-match": b"abc"}) == WriteConditions(if_match="abc")
    assert parse_write({b"if-match": b"*"}, deleting=True) == WriteConditions(if_match="*")


@pytest.mark.parametrize(
    ("fields", "deleting", "code"),
    [
        ({b"if-none-match": b'"abc"'}, False, "NotImplemented"),
        ({b"if-none-match": b"*", b"if-match": b'"a"'}, False, "NotImplemented"),
        ({b"if-none-match": b"*"}, True, "NotImplemented"),
        ({b"if-modified-since": SAME}, False, "NotImplemented"),
        ({b"if-unmodified-since": SAME}, False, "NotImplemented"),
        ({b"if-match": b'"a", "b"'}, False, "InvalidArgument"),
        ({b"if-match": b'""'}, False, "InvalidArgument"),
    ],
)
def test_refused_write_conditions(fields: dict[bytes, bytes], deleting: bool, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_write(fields, deleting=deleting)
    assert caught.value.code == code
