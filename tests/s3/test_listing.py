"""ListObjects v1 and v2: order, prefixes, delimiters, pages, encoding."""

from __future__ import annotations

import secrets
import urllib.parse
from collections.abc import Iterator
from itertools import chain

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import MakeBucket, remove_bucket
from .raw import Raw

KEYS = [
    "a",
    "a/",
    "a/1",
    "a/2",
    "a0",
    "b/x/1",
    "b/x/2",
    "b/y/1",
    "boo/bar",
    "cquux/thud",
    "cquux/bla",
    "foo",
    "é/1",
    "日本",
    "\U0001f642",
    "\uffee",
]
ORDERED = sorted(KEYS, key=lambda key: key.encode())


@pytest.fixture(scope="module")
def filled(s3: S3Client) -> Iterator[str]:
    name = f"t-{secrets.token_hex(8)}"
    s3.create_bucket(Bucket=name)
    for key in KEYS:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    yield name
    remove_bucket(s3, name)


def pages_v2(s3: S3Client, bucket: str, size: int, **arguments: str) -> list[list[str]]:
    """Each page as its keys and prefixes in the order they would sort."""
    pages: list[list[str]] = []
    token = ""
    seen: set[str] = set()
    while True:
        more = {"ContinuationToken": token} if token else {}
        page = s3.list_objects_v2(Bucket=bucket, MaxKeys=size, **arguments, **more)
        keys = [entry["Key"] for entry in page.get("Contents", [])]
        groups = [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert page["KeyCount"] == len(keys) + len(groups) <= size
        pages.append(sorted(keys + groups, key=lambda text: text.encode()))
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            return pages
        token = page["NextContinuationToken"]
        assert token not in seen
        seen.add(token)


def test_keys_come_in_utf8_byte_order(s3: S3Client, filled: str) -> None:
    listed = s3.list_objects_v2(Bucket=filled)
    assert [entry["Key"] for entry in listed["Contents"]] == ORDERED
    assert listed["KeyCount"] == len(KEYS)
    assert listed["MaxKeys"] == 1000


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_pages_of_any_size_cover_everything_once(s3: S3Client, filled: str, size: int) -> None:
    assert list(chain.from_iterable(pages_v2(s3, filled, size))) == ORDERED


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("prefix", "delimiter", "expected"),
    [
        ("", "/", ["a", "a/", "a0", "b/", "boo/", "cquux/", "foo", "é/", "日本", "\uffee", "🙂"]),
        ("a", "/", ["a", "a/", "a0"]),
        ("a/", "/", ["a/", "a/1", "a/2"]),
        ("b/", "/", ["b/x/", "b/y/"]),
        ("b/x", "/", ["b/x/"]),
        ("", "oo", ["a", "a/", "a/1", "a/2", "a0", "b/x/1", "b/x/2", "b/y/1", "boo"]),
        ("zzz", "/", []),
    ],
)
def test_delimiter_groups_never_repeat_over_pages(
    s3: S3Client, filled: str, prefix: str, delimiter: str, expected: list[str], size: int
) -> None:
    pages = pages_v2(s3, filled, size, Prefix=prefix, Delimiter=delimiter)
    got = list(chain.from_iterable(pages))
    if delimiter == "oo":
        expected = [
            *expected,
            "cquux/bla",
            "cquux/thud",
            "foo",
            "é/1",
            "日本",
            "\uffee",
            "🙂",
        ]
    assert got == sorted(expected, key=lambda text: text.encode())
    assert len(got) == len(set(got))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_v1_markers_walk_through_groups(s3: S3Client, filled: str, size: int) -> None:
    seen: list[str] = []
    marker = ""
    while True:
        page = s3.list_objects(Bucket=filled, Delimiter="/", MaxKeys=size, Marker=marker)
        seen += sorted(
            [entry["Key"] for entry in page.get("Contents", [])]
            + [entry["Prefix"] for entry in page.get("CommonPrefixes", [])],
            key=lambda text: text.encode(),
        )
        if not page["IsTruncated"]:
            break
        assert page["NextMarker"] == seen[-1]
        marker = page["NextMarker"]
    assert seen == sorted(set(seen), key=lambda text: text.encode())
    assert "b/" in seen
    assert "b/x/1" not in seen


def test_v1_gives_next_marker_only_with_a_delimiter(s3: S3Client, filled: str) -> None:
    page = s3.list_objects(Bucket=filled, MaxKeys=2)
    assert page["IsTruncated"]
    assert "NextMarker" not in page
    rest = s3.list_objects(Bucket=filled, Marker=page["Contents"][-1]["Key"])
    assert [entry["Key"] for entry in rest["Contents"]] == ORDERED[2:]


def test_marker_need_not_exist(s3: S3Client, filled: str) -> None:
    page = s3.list_objects(Bucket=filled, Marker="a/1\u0001")
    assert page["Contents"][0]["Key"] == "a/2"


def test_start_after_is_exclusive_and_ignored_with_a_token(s3: S3Client, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, StartAfter="a0", MaxKeys=1)
    assert page["Contents"][0]["Key"] == "b/x/1"
    assert page["StartAfter"] == "a0"
    after = s3.list_objects_v2(
        Bucket=filled, StartAfter="zz", ContinuationToken=page["NextContinuationToken"], MaxKeys=1
    )
    assert after["Contents"][0]["Key"] == "b/x/2"


def test_max_keys_0_is_empty_and_not_truncated(s3: S3Client, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"]) == (0, False, 0)


def test_max_keys_over_1000_is_clipped_and_negative_refused(raw: Raw, filled: str) -> None:
    assert b"<MaxKeys>1000</MaxKeys>" in raw("GET", f"/{filled}?max-keys=5000").body
    for wrong in ("-1", "x", "99999999999"):
        answer = raw("GET", f"/{filled}?max-keys={wrong}")
        assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_page_that_ends_exactly_is_not_truncated(s3: S3Client, filled: str) -> None:
    assert not s3.list_objects_v2(Bucket=filled, MaxKeys=len(KEYS))["IsTruncated"]


def test_empty_page_after_the_last_key(s3: S3Client, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, StartAfter="\U0010ffff")
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)


def test_broken_token_is_invalid_argument(s3: S3Client, filled: str) -> None:
    for token in ("nonsense!", "AAAA"):
        with refused("InvalidArgument", 400):
            s3.list_objects_v2(Bucket=filled, ContinuationToken=token)


def test_empty_token_is_the_first_page(s3: S3Client, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, ContinuationToken="")
    assert (page["ContinuationToken"], page["KeyCount"]) == ("", len(KEYS))


def test_owners_are_told_in_v1_and_in_v2_only_when_asked(s3: S3Client, filled: str) -> None:
    me = s3.list_buckets()["Owner"]["ID"]
    assert s3.list_objects(Bucket=filled)["Contents"][0]["Owner"]["ID"] == me
    assert "Owner" not in s3.list_objects_v2(Bucket=filled)["Contents"][0]
    assert s3.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == me


def test_url_encoding_covers_keys_prefixes_and_markers_but_not_tokens(
    raw: Raw, s3: S3Client, make_bucket: MakeBucket
) -> None:
    bucket = make_bucket()
    for key in ("ä b/1", "ä b/2", "x\x01y"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    prefix = urllib.parse.quote("ä ")
    body = raw(
        "GET",
        f"/{bucket}?list-type=2&encoding-type=url&delimiter=%2F"
        f"&prefix={prefix}&start-after={prefix}",
    ).body
    assert b"<Prefix>%C3%A4%20b/</Prefix>" in body
    assert b"<StartAfter>%C3%A4%20</StartAfter>" in body
    assert b"<EncodingType>url</EncodingType>" in body
    assert b"<Key>x%01y</Key>" in raw("GET", f"/{bucket}?encoding-type=url").body
    answer = raw("GET", f"/{bucket}?encoding-type=hex")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_carriage_return_survives_a_plain_listing(s3: S3Client, raw: Raw, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a\rb", Body=b"")
    assert b"<Key>a&#13;b</Key>" in raw("GET", f"/{bucket}?list-type=2").body


def test_listing_tells_size_etag_and_checksum_algorithm(s3: S3Client, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm="CRC32C")
    [entry] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["Size"], entry["ETag"], entry["StorageClass"]) == (5, put["ETag"], "STANDARD")
    assert entry["ChecksumAlgorithm"] == ["CRC32C"]


def test_deleted_keys_are_not_listed_and_truncation_skips_them(
    s3: S3Client, versioned: str
) -> None:
    for number in range(6):
        s3.put_object(Bucket=versioned, Key=f"k{number}", Body=b"")
    for number in (1, 2, 5):
        s3.delete_object(Bucket=versioned, Key=f"k{number}")
    page = s3.list_objects_v2(Bucket=versioned, MaxKeys=3)
    assert [entry["Key"] for entry in page["Contents"]] == ["k0", "k3", "k4"]
    assert not page["IsTruncated"]
