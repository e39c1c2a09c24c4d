"""XML that we answer: one writer per document, by string building.

Writers take plain values; keys are bytes. With `url=True` (encoding-type=url) keys, prefixes,
delimiters and markers are percent-encoded, but never tokens, as S3 has it. Listings are a hot path:
a thousand entries are a thousand f-strings over the tuples that the view gave, and nothing else.
Source: AWS, the API pages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from .acl import Grant
from .checksums import FULL_OBJECT
from .dates import ISO_HOURS, MILLISECONDS, MINUTES, SECONDS, iso_extended
from .xml_text import XML_HEAD, escape, join_keys, url_encode, writer_of_keys

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class Owner(NamedTuple):
    id: str
    name: str = ""


class ListedBucket(NamedTuple):
    name: str
    created_ms: int
    region: str = ""


ListedObject = tuple[bytes, int, int, str, int, str, str | None, int]
"""Key, modified when: hours since the epoch and milliseconds behind them (which SQLite takes apart
faster than we), ETag without quotes, size, checksum, owner's id where it is told, and what
is not written. The checksum is its algorithm, with another type than FULL_OBJECT behind a blank.
"""

ListedVersion = tuple[bytes, str, int, int, str, int, str, int, str, int]
"""Key, version id, modified when (as above), ETag without quotes, size, checksum (as above),
whether it is a delete marker, owner's id, and what is not written.
"""


class ListedUpload(NamedTuple):
    key: bytes
    upload_id: str
    initiated_ms: int
    owner: Owner
    checksum: str = ""
    checksum_type: str = ""


class ListedPart(NamedTuple):
    number: int
    modified_ms: int
    etag: str
    size: int
    checksums: dict[str, str]


class DeletedObject(NamedTuple):
    """`marker_version_id` is set where the delete made a delete marker or removed one."""

    key: bytes
    version_id: str = ""
    delete_marker: bool = False
    marker_version_id: str = ""


class DeleteFailure(NamedTuple):
    key: bytes
    code: str
    message: str
    version_id: str = ""


def list_buckets(
    owner: Owner,
    buckets: Iterable[ListedBucket],
    *,
    prefix: str | None = None,
    continuation_token: str | None = None,
) -> bytes:
    """ListAllMyBucketsResult; `continuation_token` only where more buckets follow."""
    rows = "".join(
        f"<Bucket><Name>{escape(b.name)}</Name>"
        f"<CreationDate>{iso_extended(b.created_ms)}</CreationDate>"
        f"{_optional('BucketRegion', b.region)}</Bucket>"
        for b in buckets
    )
    return _document(
        "ListAllMyBucketsResult",
        f"{_owner('Owner', owner)}<Buckets>{rows}</Buckets>"
        f"{_given('ContinuationToken', continuation_token)}{_given('Prefix', prefix)}",
    )


def list_objects(
    bucket: str,
    objects: Sequence[ListedObject],
    prefixes: Sequence[bytes],
    owners: Mapping[str, Owner],
    *,
    prefix: bytes,
    marker: bytes,
    delimiter: bytes,
    max_keys: int,
    truncated: bool,
    next_marker: bytes | None = None,
    url: bool = False,
) -> bytes:
    """ListBucketResult, version 1. `owners` holds the owners that the objects tell by id."""
    text = _key_text(url)
    return _listing(
        "ListBucketResult",
        f"<Name>{bucket}</Name><Prefix>{text(prefix)}</Prefix><Marker>{text(marker)}</Marker>"
        f"{_key('NextMarker', next_marker, text)}<MaxKeys>{max_keys}</MaxKeys>"
        f"{_key('Delimiter', delimiter or None, text)}{_encoding(url)}"
        f"<IsTruncated>{_boolean(truncated)}</IsTruncated>",
        _contents(objects, owners, url=url),
        _prefixes(prefixes, url=url),
    )


def list_objects_v2(
    bucket: str,
    objects: Sequence[ListedObject],
    prefixes: Sequence[bytes],
    owners: Mapping[str, Owner],
    *,
    prefix: bytes,
    delimiter: bytes,
    max_keys: int,
    truncated: bool,
    start_after: bytes = b"",
    continuation_token: str | None = None,
    next_continuation_token: str | None = None,
    url: bool = False,
) -> bytes:
    """ListBucketResult, version 2. Tokens are opaque text and stay as they are. `owners` holds the
    owners that the objects tell by id.
    """
    text = _key_text(url)
    return _listing(
        "ListBucketResult",
        f"<Name>{bucket}</Name><Prefix>{text(prefix)}</Prefix>"
        f"{_key('StartAfter', start_after or None, text)}"
        f"{_given('ContinuationToken', continuation_token)}"
        f"{_given('NextContinuationToken', next_continuation_token)}"
        f"<KeyCount>{len(objects) + len(prefixes)}</KeyCount><MaxKeys>{max_keys}</MaxKeys>"
        f"{_key('Delimiter', delimiter or None, text)}{_encoding(url)}"
        f"<IsTruncated>{_boolean(truncated)}</IsTruncated>",
        _contents(objects, owners, url=url),
        _prefixes(prefixes, url=url),
    )


def list_versions(
    bucket: str,
    versions: Sequence[ListedVersion],
    prefixes: Sequence[bytes],
    owners: Mapping[str, Owner],
    *,
    continued: bytes,
    prefix: bytes,
    key_marker: bytes,
    version_id_marker: str,
    delimiter: bytes,
    max_keys: int,
    truncated: bool,
    next_key_marker: bytes | None = None,
    next_version_id_marker: str | None = None,
    url: bool = False,
) -> bytes:
    """ListVersionsResult; versions and delete markers in the order given: the first of a key is its
    latest, unless a page before has told that one and `continued` is the key.
    """
    text = _key_text(url)
    return _listing(
        "ListVersionsResult",
        f"<Name>{bucket}</Name><Prefix>{text(prefix)}</Prefix>"
        f"<KeyMarker>{text(key_marker)}</KeyMarker>"
        f"<VersionIdMarker>{escape(version_id_marker)}</VersionIdMarker>"
        f"{_key('NextKeyMarker', next_key_marker, text)}"
        f"{_given('NextVersionIdMarker', next_version_id_marker)}<MaxKeys>{max_keys}</MaxKeys>"
        f"{_key('Delimiter', delimiter or None, text)}{_encoding(url)}"
        f"<IsTruncated>{_boolean(truncated)}</IsTruncated>",
        _versions(versions, owners, continued, url=url),
        _prefixes(prefixes, url=url),
    )


def list_multipart_uploads(
    bucket: str,
    uploads: Sequence[ListedUpload],
    prefixes: Sequence[bytes],
    *,
    prefix: bytes,
    key_marker: bytes,
    upload_id_marker: str,
    delimiter: bytes,
    max_uploads: int,
    truncated: bool,
    next_key_marker: bytes | None = None,
    next_upload_id_marker: str | None = None,
    url: bool = False,
) -> bytes:
    """ListMultipartUploadsResult."""
    text = _key_text(url)
    rows = [
        f"<Upload><Key>{text(u.key)}</Key><UploadId>{escape(u.upload_id)}</UploadId>"
        f"{_owner('Initiator', u.owner)}{_owner('Owner', u.owner)}"
        f"<StorageClass>STANDARD</StorageClass>"
        f"<Initiated>{iso_extended(u.initiated_ms)}</Initiated>"
        f"{_checksum_kind(u.checksum, u.checksum_type)}</Upload>"
        for u in uploads
    ]
    return _listing(
        "ListMultipartUploadsResult",
        f"<Bucket>{bucket}</Bucket><KeyMarker>{text(key_marker)}</KeyMarker>"
        f"<UploadIdMarker>{escape(upload_id_marker)}</UploadIdMarker>"
        f"{_key('NextKeyMarker', next_key_marker, text)}"
        f"{_given('NextUploadIdMarker', next_upload_id_marker)}"
        f"<Prefix>{text(prefix)}</Prefix>{_key('Delimiter', delimiter or None, text)}"
        f"<MaxUploads>{max_uploads}</MaxUploads>{_encoding(url)}"
        f"<IsTruncated>{_boolean(truncated)}</IsTruncated>",
        rows,
        _prefixes(prefixes, url=url),
    )


def list_parts(
    bucket: str,
    key: bytes,
    upload_id: str,
    parts: Sequence[ListedPart],
    *,
    owner: Owner,
    part_number_marker: int,
    max_parts: int,
    truncated: bool,
    checksum: str = "",
    checksum_type: str = "",
    url: bool = False,
) -> bytes:
    """ListPartsResult; NextPartNumberMarker is the last part listed."""
    text = _key_text(url)
    rows = "".join(
        f"<Part><PartNumber>{p.number}</PartNumber>"
        f"<LastModified>{iso_extended(p.modified_ms)}</LastModified>"
        f"<ETag>&quot;{p.etag}&quot;</ETag><Size>{p.size}</Size>{_checksums(p.checksums)}</Part>"
        for p in parts
    )
    last = parts[-1].number if parts else 0
    return _document(
        "ListPartsResult",
        f"<Bucket>{bucket}</Bucket>{_encoding(url)}<Key>{text(key)}</Key>"
        f"<UploadId>{escape(upload_id)}</UploadId>{_owner('Initiator', owner)}"
        f"{_owner('Owner', owner)}<StorageClass>STANDARD</StorageClass>"
        f"<PartNumberMarker>{part_number_marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{max_parts}</MaxParts>"
        f"<IsTruncated>{_boolean(truncated)}</IsTruncated>"
        f"{_checksum_kind(checksum, checksum_type)}{rows}",
    )


def initiate_multipart_upload(bucket: str, key: bytes, upload_id: str) -> bytes:
    return _document(
        "InitiateMultipartUploadResult",
        f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        f"<UploadId>{escape(upload_id)}</UploadId>",
    )


def complete_multipart_upload(
    location: str,
    bucket: str,
    key: bytes,
    etag: str,
    checksums: dict[str, str],
    checksum_type: str = "",
) -> bytes:
    return _document(
        "CompleteMultipartUploadResult",
        f"<Location>{escape(location)}</Location><Bucket>{bucket}</Bucket>"
        f"<Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag>{_checksums(checksums)}"
        f"{_optional('ChecksumType', checksum_type)}",
    )


def copy_object(
    modified_ms: int, etag: str, checksums: dict[str, str], checksum_type: str = ""
) -> bytes:
    return _copy("CopyObjectResult", modified_ms, etag, checksums, checksum_type)


def copy_part(modified_ms: int, etag: str, checksums: dict[str, str]) -> bytes:
    return _copy("CopyPartResult", modified_ms, etag, checksums, "")


def delete_result(
    deleted: Iterable[DeletedObject], failed: Iterable[DeleteFailure], *, quiet: bool
) -> bytes:
    """DeleteResult; quiet leaves out what went well."""
    rows = [
        f"<Deleted><Key>{escape(d.key)}</Key>{_optional('VersionId', d.version_id)}"
        + (
            "<DeleteMarker>true</DeleteMarker>"
            + _optional("DeleteMarkerVersionId", d.marker_version_id)
            if d.delete_marker
            else ""
        )
        + "</Deleted>"
        for d in (() if quiet else deleted)
    ]
    rows += [
        f"<Error><Key>{escape(f.key)}</Key>{_optional('VersionId', f.version_id)}"
        f"<Code>{f.code}</Code><Message>{escape(f.message)}</Message></Error>"
        for f in failed
    ]
    return _document("DeleteResult", "".join(rows))


def location_constraint(region: str) -> bytes:
    """us-east-1 is the empty constraint."""
    return _document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def versioning_configuration(status: str) -> bytes:
    """`status` is empty where versioning was never enabled."""
    return _document("VersioningConfiguration", _optional("Status", status))


def no_tags() -> bytes:
    """The Tagging document of what has none."""
    return _document("Tagging", "<TagSet></TagSet>")


def access_control_policy(
    owner: Owner, grants: Sequence[Grant], name_of: Callable[[str], str] = lambda _id: ""
) -> bytes:
    """`name_of` gives the display name of a user id. Groups come first: clients have come to rely
    on it where a canned ACL grants to a group.
    """
    xsi = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    rows = []
    for grant in sorted(grants, key=lambda one: not one.group):
        if grant.group:
            grantee = f'<Grantee {xsi} xsi:type="Group"><URI>{escape(grant.group)}</URI></Grantee>'
        else:
            name = owner.name if grant.user == owner.id else name_of(grant.user)
            grantee = (
                f'<Grantee {xsi} xsi:type="CanonicalUser"><ID>{escape(grant.user)}</ID>'
                f"{_optional('DisplayName', name)}</Grantee>"
            )
        rows.append(f"<Grant>{grantee}<Permission>{grant.permission.value}</Permission></Grant>")
    return _document(
        "AccessControlPolicy",
        f"{_owner('Owner', owner)}<AccessControlList>{''.join(rows)}</AccessControlList>",
    )


OBJECT_ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
"""What GetObjectAttributes can be asked for."""


def object_attributes(
    wanted: Collection[str],
    *,
    etag: str,
    size: int,
    checksums: dict[str, str],
    checksum_type: str,
    part_sizes: Sequence[int] = (),
    part_checksums: Sequence[str] = (),
    part_number_marker: int = 0,
    max_parts: int = 1000,
) -> bytes:
    """GetObjectAttributesResponse; the parts' checksums are of the object's own algorithm.

    Parts are numbered by their place in the object; those behind `part_number_marker` are told.
    """
    rows = []
    if "ETag" in wanted:
        rows.append(f"<ETag>{etag}</ETag>")
    if "Checksum" in wanted and checksums:
        kind = _optional("ChecksumType", checksum_type)
        rows.append(f"<Checksum>{_checksums(checksums)}{kind}</Checksum>")
    if "ObjectParts" in wanted and part_sizes:
        given = part_checksums or [""] * len(part_sizes)
        count = len(part_sizes)
        last = min(part_number_marker + max_parts, count)
        parts = "".join(
            f"<Part><PartNumber>{index + 1}</PartNumber><Size>{part_sizes[index]}</Size>"
            f"{_checksums(dict.fromkeys(checksums, given[index])) if given[index] else ''}</Part>"
            for index in range(part_number_marker, last)
        )
        rows.append(
            f"<ObjectParts><TotalPartsCount>{count}</TotalPartsCount>"
            f"<PartsCount>{count}</PartsCount>"
            f"<PartNumberMarker>{part_number_marker}</PartNumberMarker>"
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{max_parts}</MaxParts>"
            f"<IsTruncated>{_boolean(last < count)}</IsTruncated>{parts}</ObjectParts>"
        )
    if "StorageClass" in wanted:
        rows.append("<StorageClass>STANDARD</StorageClass>")
    if "ObjectSize" in wanted:
        rows.append(f"<ObjectSize>{size}</ObjectSize>")
    return _document("GetObjectAttributesResponse", "".join(rows))


# --- pieces ---


def _document(root: str, content: str) -> bytes:
    return f'{XML_HEAD}<{root} xmlns="{XMLNS}">{content}</{root}>'.encode()


def _key_text(url: bool) -> Callable[[bytes], str]:
    return url_encode if url else escape


def _listing(root: str, head: str, entries: list[str], prefixes: str) -> bytes:
    """A page as one document, its parts joined once: it has some hundred kilobytes."""
    return "".join(
        [f'{XML_HEAD}<{root} xmlns="{XMLNS}">{head}', *entries, prefixes, f"</{root}>"]
    ).encode()


def _contents(
    objects: Sequence[ListedObject], owners: Mapping[str, Owner], *, url: bool
) -> list[str]:
    if not objects:
        return []
    text = writer_of_keys([one[0] for one in objects], url=url)
    hours, minutes, seconds, milliseconds = ISO_HOURS, MINUTES, SECONDS, MILLISECONDS
    checksums = {one: _listed_checksum(one) for one in {row[5] for row in objects}}
    told: dict[str | None, str] = {one: _owner("Owner", owner) for one, owner in owners.items()}
    told[None] = ""
    return [
        f"<Contents><Key>{text(key)}</Key><LastModified>{hours[hour]}"
        f"{minutes[ms // 60_000]}{seconds[ms // 1000 % 60]}{milliseconds[ms % 1000]}"
        f"</LastModified><ETag>&quot;{etag}&quot;</ETag>{checksums[checksum]}"
        f"<Size>{size}</Size>{told[owner]}<StorageClass>STANDARD</StorageClass></Contents>"
        for key, hour, ms, etag, size, checksum, owner, _ in objects
    ]


def _versions(
    versions: Sequence[ListedVersion], owners: Mapping[str, Owner], continued: bytes, *, url: bool
) -> list[str]:
    text = writer_of_keys([one[0] for one in versions], url=url)
    hours, minutes, seconds, milliseconds = ISO_HOURS, MINUTES, SECONDS, MILLISECONDS
    checksums = {one: _listed_checksum(one) for one in {row[6] for row in versions}}
    told = {one: _owner("Owner", owner) for one, owner in owners.items()}
    seen = continued
    entries = []
    for key, version_id, hour, ms, etag, size, checksum, marker, owner, _ in versions:
        common = (
            f"<Key>{text(key)}</Key><VersionId>{version_id}</VersionId>"
            f"<IsLatest>{'false' if key == seen else 'true'}</IsLatest>"
            f"<LastModified>{hours[hour]}{minutes[ms // 60_000]}{seconds[ms // 1000 % 60]}"
            f"{milliseconds[ms % 1000]}</LastModified>"
        )
        seen = key
        entries.append(
            f"<DeleteMarker>{common}{told[owner]}</DeleteMarker>"
            if marker
            else f"<Version>{common}<ETag>&quot;{etag}&quot;</ETag>{checksums[checksum]}"
            f"<Size>{size}</Size>{told[owner]}<StorageClass>STANDARD</StorageClass></Version>"
        )
    return entries


def _prefixes(prefixes: Sequence[bytes], *, url: bool) -> str:
    if not prefixes:
        return ""
    between = "</Prefix></CommonPrefixes><CommonPrefixes><Prefix>"
    texts = join_keys(prefixes, between, url=url)
    return f"<CommonPrefixes><Prefix>{texts}</Prefix></CommonPrefixes>"


def _copy(
    root: str, modified_ms: int, etag: str, checksums: dict[str, str], checksum_type: str
) -> bytes:
    return _document(
        root,
        f"<LastModified>{iso_extended(modified_ms)}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag>{_checksums(checksums)}"
        f"{_optional('ChecksumType', checksum_type)}",
    )


@lru_cache(maxsize=1024)
def _owner(element: str, owner: Owner) -> str:
    return (
        f"<{element}><ID>{escape(owner.id)}</ID>"
        f"<DisplayName>{escape(owner.name)}</DisplayName></{element}>"
    )


def _checksums(checksums: dict[str, str]) -> str:
    return "".join(
        [f"<Checksum{name}>{escape(value)}</Checksum{name}>" for name, value in checksums.items()]
    )


@lru_cache(maxsize=64)
def _listed_checksum(checksum: str) -> str:
    algorithm, _, kind = checksum.partition(" ")
    return _checksum_kind(algorithm, kind or FULL_OBJECT) if algorithm else ""


@lru_cache(maxsize=64)
def _checksum_kind(algorithm: str, kind: str) -> str:
    return f"{_optional('ChecksumAlgorithm', algorithm)}{_optional('ChecksumType', kind)}"


def _optional(element: str, value: str) -> str:
    """The element, or nothing where the value is empty."""
    return f"<{element}>{escape(value)}</{element}>" if value else ""


def _given(element: str, value: str | None) -> str:
    """The element, even if empty, unless the value was not given."""
    return "" if value is None else f"<{element}>{escape(value)}</{element}>"


def _key(element: str, value: bytes | None, text: Callable[[bytes], str]) -> str:
    return "" if value is None else f"<{element}>{text(value)}</{element}>"


def _encoding(url: bool) -> str:
    return "<EncodingType>url</EncodingType>" if url else ""


def _boolean(value: bool) -> str:
    return "true" if value else "false"
