"""Pages on the wire between nodes of two releases: the first release's form, read both ways."""

from __future__ import annotations

import msgspec

from objectstore_app.core.ids import UserId, VersionOrder
from objectstore_app.metadata_service.api import (
    Attributes,
    ObjectsPage,
    ObjectVersion,
    VersionsPage,
)
from objectstore_app.metadata_service.pages import (
    HOUR_MS,
    SentObjects,
    SentVersions,
    checksum_text,
    received_objects,
    received_versions,
    send_objects,
    send_versions,
)

MS = 1_700_000_123_456
WHEN = divmod(MS, HOUR_MS)
OWNER = UserId("a" * 64)


class FirstPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of objects or versions as the first release declared it."""

    entries: tuple[ObjectVersion | bytes, ...]
    truncated: bool
    next_after: bytes = b""
    next_key: bytes = b""
    next_version_id: str = ""


def first_version(key: bytes, *, latest: bool = True, marker: bool = False) -> ObjectVersion:
    return ObjectVersion(
        key=key, order=VersionOrder(-7), version_id="v", size=5, etag="e", modified_ms=MS,
        owner=OWNER, delete_marker=marker, latest=latest,
        attributes=Attributes(
            headers={"content-type": "x/y"}, checksums={"SHA256": "abc-2"},
            checksum_type="COMPOSITE",
        ),
    )  # fmt: skip


def test_pages_of_the_first_release_are_read() -> None:
    page = FirstPage(
        entries=(first_version(b"k", latest=False), first_version(b"l", marker=True), b"p/"),
        truncated=True, next_after=b"p/", next_key=b"p/", next_version_id="",
    )  # fmt: skip
    raw = msgspec.msgpack.encode(page)
    assert received_objects(msgspec.msgpack.decode(raw, type=SentObjects)) == ObjectsPage(
        [
            (b"k", *WHEN, "e", 5, "SHA256 COMPOSITE", OWNER, 0),
            (b"l", *WHEN, "e", 5, "SHA256 COMPOSITE", OWNER, 0),
        ],
        [b"p/"], truncated=True, next_after=b"p/",
    )  # fmt: skip
    assert received_versions(msgspec.msgpack.decode(raw, type=SentVersions)) == VersionsPage(
        [
            (b"k", "v", *WHEN, "e", 5, "SHA256 COMPOSITE", 0, OWNER, -7),
            (b"l", "v", *WHEN, "e", 5, "SHA256 COMPOSITE", 1, OWNER, -7),
        ],
        [b"p/"], continued=b"k", truncated=True, next_key=b"p/",
    )  # fmt: skip


def test_the_first_release_reads_our_pages() -> None:
    objects = ObjectsPage(
        [(b"k", *WHEN, "e", 5, "CRC32", OWNER, 0), (b"l", *WHEN, "f", 6, "", OWNER, 0)],
        [b"p/"], truncated=True, next_after=b"p/",
    )  # fmt: skip
    raw = msgspec.msgpack.encode(send_objects(objects))
    page = msgspec.msgpack.decode(raw, type=FirstPage)
    first, second, group = page.entries
    assert isinstance(first, ObjectVersion)
    assert isinstance(second, ObjectVersion)
    assert (first.key, first.modified_ms, first.etag, first.size) == (b"k", MS, "e", 5)
    assert (first.owner, checksum_text(first.attributes)) == (OWNER, "CRC32")
    assert checksum_text(second.attributes) == ""
    assert (group, page.truncated, page.next_after) == (b"p/", True, b"p/")


def test_pages_come_back_as_they_were_sent() -> None:
    versions = VersionsPage(
        [
            (b"k", "v1", *WHEN, "e", 5, "CRC32", 0, OWNER, -9),
            (b"k", "v0", *WHEN, "", 0, "", 1, OWNER, -8),
            (b"l", "null", *WHEN, "e", 5, "SHA1 COMPOSITE", 0, OWNER, -3),
        ],
        [b"p/"], continued=b"k", truncated=True, next_key=b"l", next_version_id="null",
    )  # fmt: skip
    raw = msgspec.msgpack.encode(send_versions(versions))
    assert received_versions(msgspec.msgpack.decode(raw, type=SentVersions)) == versions
    assert [
        one.latest
        for one in msgspec.msgpack.decode(raw, type=FirstPage).entries
        if isinstance(one, ObjectVersion)
    ] == [False, False, True]
    early = ObjectsPage([], [], truncated=True, next_after=b"k\0")
    raw = msgspec.msgpack.encode(send_objects(early))
    assert received_objects(msgspec.msgpack.decode(raw, type=SentObjects)) == early
