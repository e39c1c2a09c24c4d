"""Listings: objects (v1, v2), versions, multipart uploads.

The metadata service pages by "after" positions; here they become markers and opaque tokens. A page
never ends inside a group: when its last entry is a common prefix, the next page starts behind every
key of that prefix, because the service skips a prefix that the position names.
"""

from __future__ import annotations

import base64
import binascii

from ..core.limits import PAGE_KEYS_MAX
from ..metadata_service.api import Attributes, ObjectsPage, ObjectVersion, Upload
from ..protocol import xml_write
from ..protocol.acl import Permission
from ..protocol.errors import S3Error
from ..protocol.target import Query
from ..runtime.http import Response
from .access import OwnerNames, bucket_for
from .call import Call, xml

_TOKEN_VERSION = b"1"


async def list_objects(call: Call) -> Response:
    """ListObjects v1: NextMarker only where a delimiter is given."""
    bucket = await bucket_for(call, Permission.READ)
    query = call.location.query
    url = _url_encoding(query)
    prefix, delimiter, marker = query.key("prefix"), query.key("delimiter"), query.key("marker")
    limit = query.integer("max-keys", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    page = ObjectsPage(entries=(), truncated=False)
    if limit:
        page = await call.services.metadata.list_objects(
            bucket, prefix=prefix, after=marker, delimiter=delimiter, limit=limit
        )
    objects, prefixes = await _listed(call, page, owners=True)
    return xml(
        xml_write.list_objects(
            bucket.name,
            objects,
            prefixes,
            prefix=prefix,
            marker=marker,
            delimiter=delimiter,
            max_keys=limit,
            truncated=page.truncated,
            next_marker=page.next_after if page.truncated and delimiter else None,
            url=url,
        )
    )


async def list_objects_v2(call: Call) -> Response:
    """ListObjectsV2: a continuation token, where given, wins over start-after."""
    bucket = await bucket_for(call, Permission.READ)
    query = call.location.query
    url = _url_encoding(query)
    prefix, delimiter = query.key("prefix"), query.key("delimiter")
    start_after = query.key("start-after")
    token = query.text("continuation-token")
    after = _after_of(token) if token else start_after
    limit = query.integer("max-keys", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    page = ObjectsPage(entries=(), truncated=False)
    if limit:
        page = await call.services.metadata.list_objects(
            bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit
        )
    objects, prefixes = await _listed(
        call, page, owners=(query.text("fetch-owner") or "").lower() == "true"
    )
    return xml(
        xml_write.list_objects_v2(
            bucket.name,
            objects,
            prefixes,
            prefix=prefix,
            delimiter=delimiter,
            max_keys=limit,
            truncated=page.truncated,
            start_after=start_after,
            continuation_token=token,
            next_continuation_token=_token(page.next_after) if page.truncated else None,
            url=url,
        )
    )


async def list_versions(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.READ)
    query = call.location.query
    url = _url_encoding(query)
    prefix, delimiter = query.key("prefix"), query.key("delimiter")
    key_marker = query.key("key-marker")
    version_marker = query.text("version-id-marker") or ""
    if query.text("version-id-marker") == "" and "key-marker" in query:
        raise _invalid("version-id-marker", "A version-id marker cannot be empty.")
    if version_marker and not key_marker:
        raise _invalid("version-id-marker", "A version-id marker needs a key marker.")
    limit = query.integer("max-keys", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    entries: tuple[ObjectVersion | bytes, ...] = ()
    truncated, next_key, next_version = False, b"", ""
    if limit:
        page = await call.services.metadata.list_versions(
            bucket,
            prefix=prefix,
            after_key=key_marker,
            after_version_id=version_marker,
            delimiter=delimiter,
            limit=limit,
        )
        entries, truncated = page.entries, page.truncated
        next_key, next_version = page.next_key, page.next_version_id
    versions = [entry for entry in entries if isinstance(entry, ObjectVersion)]
    owners = await OwnerNames(call).of(*[version.owner for version in versions])
    return xml(
        xml_write.list_versions(
            bucket.name,
            [
                xml_write.ListedVersion(
                    one.key,
                    one.version_id,
                    one.latest,
                    one.modified_ms,
                    owner,
                    one.delete_marker,
                    one.etag,
                    one.size,
                    *_checksum(one.attributes),
                )
                for one, owner in zip(versions, owners, strict=True)
            ],
            [entry for entry in entries if isinstance(entry, bytes)],
            prefix=prefix,
            key_marker=key_marker,
            version_id_marker=version_marker,
            delimiter=delimiter,
            max_keys=limit,
            truncated=truncated,
            next_key_marker=next_key if truncated else None,
            next_version_id_marker=next_version if truncated and next_version else None,
            url=url,
        )
    )


async def list_uploads(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.READ)
    query = call.location.query
    url = _url_encoding(query)
    prefix, delimiter = query.key("prefix"), query.key("delimiter")
    key_marker = query.key("key-marker")
    # S3 ignores an upload-id marker that comes without a key marker.
    upload_marker = (query.text("upload-id-marker") or "") if key_marker else ""
    limit = query.integer("max-uploads", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    entries: tuple[Upload | bytes, ...] = ()
    truncated, next_key, next_upload = False, b"", ""
    if limit:
        page = await call.services.metadata.list_uploads(
            bucket,
            prefix=prefix,
            after_key=key_marker,
            after_upload_id=upload_marker,
            delimiter=delimiter,
            limit=limit,
        )
        entries, truncated = page.entries, page.truncated
        next_key, next_upload = page.next_key, page.next_upload_id
    uploads = [entry for entry in entries if isinstance(entry, Upload)]
    owners = await OwnerNames(call).of(*[upload.owner for upload in uploads])
    return xml(
        xml_write.list_multipart_uploads(
            bucket.name,
            [
                xml_write.ListedUpload(
                    one.key,
                    one.upload_id,
                    one.initiated_ms,
                    owner,
                    one.checksum_algorithm,
                    one.checksum_type,
                )
                for one, owner in zip(uploads, owners, strict=True)
            ],
            [entry for entry in entries if isinstance(entry, bytes)],
            prefix=prefix,
            key_marker=key_marker,
            upload_id_marker=upload_marker,
            delimiter=delimiter,
            max_uploads=limit,
            truncated=truncated,
            next_key_marker=next_key if truncated else None,
            next_upload_id_marker=next_upload if truncated else None,
            url=url,
        )
    )


async def _listed(
    call: Call, page: ObjectsPage, *, owners: bool
) -> tuple[list[xml_write.ListedObject], list[bytes]]:
    """A page's entries in the writer's shape, with or without their owners."""
    versions = [entry for entry in page.entries if isinstance(entry, ObjectVersion)]
    prefixes = [entry for entry in page.entries if isinstance(entry, bytes)]
    named: list[xml_write.Owner] | list[None] = [None] * len(versions)
    if owners:
        named = await OwnerNames(call).of(*[version.owner for version in versions])
    listed = [
        xml_write.ListedObject(
            one.key, one.modified_ms, one.etag, one.size, owner, *_checksum(one.attributes)
        )
        for one, owner in zip(versions, named, strict=True)
    ]
    return listed, prefixes


def _checksum(attributes: Attributes) -> tuple[str, str]:
    """Algorithm and type of a version's checksum."""
    for algorithm in attributes.checksums:
        return algorithm, attributes.checksum_type
    return "", ""


def _url_encoding(query: Query) -> bool:
    encoding = query.text("encoding-type")
    if encoding not in (None, "", "url"):
        raise _invalid("encoding-type", "Invalid Encoding Method specified in Request")
    return encoding == "url"


def _token(after: bytes) -> str:
    """Opaque, and plain ASCII whatever the key: clients send it back as it is."""
    return base64.urlsafe_b64encode(_TOKEN_VERSION + after).decode()


def _after_of(token: str) -> bytes:
    try:
        decoded = base64.b64decode(token.encode(), b"-_", validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if decoded[:1] != _TOKEN_VERSION:
        raise _invalid("continuation-token", "The continuation token provided is incorrect")
    return decoded[1:]


def _invalid(name: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name)
