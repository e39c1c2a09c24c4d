"""Listings as XML: what is written fast equals what is written with care, byte for byte.

The reference below escapes or encodes each value for itself and takes nothing for granted.
"""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol import xml_write
from objectstore_app.protocol.dates import iso_extended
from objectstore_app.protocol.xml_text import escape, url_encode
from objectstore_app.protocol.xml_write import ListedObject, ListedVersion, Owner

ME, YOU = Owner("a" * 64, "Me & <you>"), Owner("b" * 64)
OWNERS = {owner.id: owner for owner in (ME, YOU)}
CHECKSUMS = {
    "": "",
    "CRC32": "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>",
    "SHA256 COMPOSITE": "<ChecksumAlgorithm>SHA256</ChecksumAlgorithm>"
    "<ChecksumType>COMPOSITE</ChecksumType>",
}
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


def text_of(key: bytes, url: bool) -> str:
    return quote(key, safe="/-_.~*") if url else escape(key)


def date_of(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


def owner_of(owner: str) -> str:
    name = escape(OWNERS[owner].name)
    return f"<Owner><ID>{owner}</ID><DisplayName>{name}</DisplayName></Owner>"


def object_xml(one: ListedObject, *, url: bool) -> str:
    key, hour, ms, etag, size, checksum, owner, _ = one
    ms += hour * 3_600_000
    return (
        f"<Contents><Key>{text_of(key, url)}</Key><LastModified>{date_of(ms)}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag>{CHECKSUMS[checksum]}<Size>{size}</Size>"
        f"{owner_of(owner) if owner else ''}<StorageClass>STANDARD</StorageClass></Contents>"
    )


def version_xml(one: ListedVersion, latest: bool, *, url: bool) -> str:
    key, version_id, hour, ms, etag, size, checksum, marker, owner, _ = one
    ms += hour * 3_600_000
    common = (
        f"<Key>{text_of(key, url)}</Key><VersionId>{version_id}</VersionId>"
        f"<IsLatest>{str(latest).lower()}</IsLatest><LastModified>{date_of(ms)}</LastModified>"
    )
    if marker:
        return f"<DeleteMarker>{common}{owner_of(owner)}</DeleteMarker>"
    return (
        f"<Version>{common}<ETag>&quot;{etag}&quot;</ETag>{CHECKSUMS[checksum]}<Size>{size}</Size>"
        f"{owner_of(owner)}<StorageClass>STANDARD</StorageClass></Version>"
    )


def prefix_xml(prefix: bytes, *, url: bool) -> str:
    return f"<CommonPrefixes><Prefix>{text_of(prefix, url)}</Prefix></CommonPrefixes>"


plain = st.text(st.sampled_from("ab/-_.~*09"), min_size=1, max_size=20)
spaced = st.text(
    st.sampled_from("a /+&<>\"'%\t\n\r\x01\x1f\x7féøß日本語한\u2028"), min_size=1, max_size=9
)
wild = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
odd = st.sampled_from(
    ["\ufffe", "a\uffff", "\ufffd", "\ufeff", "\U0010ffff", "\x85", "]]>", "&#13;"]
)
texts = st.one_of(plain, spaced, wild, odd)
# Whole pages of one kind, so that pages without a special character are among them.
keys = st.one_of(st.lists(plain, max_size=12), st.lists(texts, max_size=12)).map(
    lambda page: [text.encode() for text in page]
)
cells = st.tuples(
    st.integers(0, 253402300799999),
    st.sampled_from(["d41d8cd98f00b204e9800998ecf8427e", "9b-3"]),
    st.integers(0, 5 * 2**40),
    st.sampled_from(sorted(CHECKSUMS)),
    st.sampled_from(sorted(OWNERS)),
    st.sampled_from([0, 1]),
)


@settings(max_examples=300, deadline=None)
@given(keys, keys, st.data(), st.booleans(), st.booleans())
def test_objects_are_written_as_with_care(
    names: list[bytes], prefixes: list[bytes], data: st.DataObject, owners: bool, url: bool
) -> None:
    objects: list[ListedObject] = []
    for name in names:
        ms, etag, size, checksum, owner, _ = data.draw(cells)
        objects.append(
            (name, *divmod(ms, 3_600_000), etag, size, checksum, owner if owners else None, 0)
        )
    body = xml_write.list_objects_v2(
        "bkt", objects, prefixes, OWNERS,
        prefix=b"", delimiter=b"", max_keys=1000, truncated=False, url=url,
    )  # fmt: skip
    wanted = "".join(
        [object_xml(one, url=url) for one in objects]
        + [prefix_xml(one, url=url) for one in prefixes]
    )
    count = len(objects) + len(prefixes)
    assert body.decode() == (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{XMLNS}">'
        f"<Name>bkt</Name><Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if url else ''}<IsTruncated>false</IsTruncated>"
        f"{wanted}</ListBucketResult>"
    )


@settings(max_examples=200, deadline=None)
@given(keys, st.data(), st.booleans(), st.booleans())
def test_versions_are_written_as_with_care(
    names: list[bytes], data: st.DataObject, begun: bool, url: bool
) -> None:
    versions: list[ListedVersion] = []
    for name in sorted(names + names[::2]):
        ms, etag, size, checksum, owner, marker = data.draw(cells)
        versions.append(
            (name, "null", *divmod(ms, 3_600_000), etag, size, checksum, marker, owner, -1)
        )
    continued = versions[0][0] if versions and begun else b""
    body = xml_write.list_versions(
        "bkt", versions, [], OWNERS, continued=continued,
        prefix=b"", key_marker=b"", version_id_marker="", delimiter=b"", max_keys=1000,
        truncated=False, url=url,
    )  # fmt: skip
    seen = continued
    wanted = ""
    for one in versions:
        wanted += version_xml(one, one[0] != seen, url=url)
        seen = one[0]
    head, _, rest = body.decode().partition("<IsTruncated>false</IsTruncated>")
    assert rest == f"{wanted}</ListVersionsResult>"
    assert head.count("<EncodingType>") == url


@given(st.binary())
def test_url_encoding_is_percent_encoding_of_bytes(value: bytes) -> None:
    assert url_encode(value) == quote(value, safe="/-_.~*")


@given(st.integers(0, 253402300799999))
def test_dates_are_those_of_the_clock(ms: int) -> None:
    assert iso_extended(ms) == date_of(ms)


@pytest.mark.parametrize("key", ["\ufffe", "a\uffff", "\x01", "\r", "<", "&", ">", '"'])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_special_key_in_a_thousand_is_found(key: str, place: int) -> None:
    names = [b"key-%04d" % number for number in range(1000)]
    names[place] += key.encode()
    objects: list[ListedObject] = [(name, 0, 0, "e", 0, "", None, 0) for name in names]
    body = xml_write.list_objects_v2(
        "b", objects, [], {}, prefix=b"", delimiter=b"", max_keys=1000, truncated=False
    )
    for name in names:
        assert f"<Key>{escape(name)}</Key>".encode() in body
