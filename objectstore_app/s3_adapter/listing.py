"""Listings: objects (v1, v2), versions, multipart uploads.

The metadata service pages by "after" positions; here they become markers and opaque tokens. A page
never ends inside a group: when its last entry is a common prefix, the next page starts behind every
key of that prefix, because the service skips a prefix that the position names.
"""

from __future__ import annotations

import asyncio
import base64
import binascii

from ..core.limits import PAGE_KEYS_MAX
from ..metadata_service.api import ObjectsPage, Upload, VersionsPage
from ..protocol import xml_write
from ..protocol.acl import Permission
from ..protocol.errors import S3Error
from ..protocol.target import Query
from ..runtime.http import Response
from .access import OwnerNames, bucket_for
from .call import Call, xml

_TOKEN_VERSION = b"1"


async def list_objects(call: Call) -> Response:
    """ListObjects v1: NextMarker only where a delimiter is given. Else clients go on behind the
    last key, so that a truncated page must not be empty: the walk goes on here, in turns.
    """
    bucket = await bucket_for(call, Permission.READ)
    query = call.location.query
    url = _url_encoding(query)
    prefix, delimiter, marker = query.key("prefix"), query.key("delimiter"), query.key("marker")
    limit = query.integer("max-keys", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    page = ObjectsPage([], [], truncated=limit > 0, next_after=marker)
    while page.truncated and not (page.objects or page.prefixes):
        page = await call.services.metadata.list_objects(
            bucket,
            prefix=prefix,
            after=page.next_after,
            delimiter=delimiter,
            limit=limit,
            owners=True,
        )
        await asyncio.sleep(0)
    return xml(
        xml_write.list_objects(
            bucket.name,
            page.objects,
            page.prefixes,
            await OwnerNames(call).by_id({row[6] for row in page.objects if row[6]}),
            prefix=prefix,
            marker=marker,
            delimiter=delimiter,
            max_keys=limit,
            truncated=page.truncated,
            next_marker=_last_entry(page) if page.truncated and delimiter else None,
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
    owners = (query.text("fetch-owner") or "").lower() == "true"
    page = ObjectsPage([], [])
    if limit:
        page = await call.services.metadata.list_objects(
            bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit, owners=owners
        )
    return xml(
        xml_write.list_objects_v2(
            bucket.name,
            page.objects,
            page.prefixes,
            await OwnerNames(call).by_id({row[6] for row in page.objects if row[6]}),
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
    page = VersionsPage([], [])
    if limit:
        page = await call.services.metadata.list_versions(
            bucket,
            prefix=prefix,
            after_key=key_marker,
            after_version_id=version_marker,
            delimiter=delimiter,
            limit=limit,
        )
    return xml(
        xml_write.list_versions(
            bucket.name,
            page.versions,
            page.prefixes,
            await OwnerNames(call).by_id({row[8] for row in page.versions}),
            continued=page.continued,
            prefix=prefix,
            key_marker=key_marker,
            version_id_marker=version_marker,
            delimiter=delimiter,
            max_keys=limit,
            truncated=page.truncated,
            next_key_marker=page.next_key if page.truncated else None,
            next_version_id_marker=(page.next_version_id or None) if page.truncated else None,
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


def _last_entry(page: ObjectsPage) -> bytes:
    """The greater one of the last key and the last prefix."""
    return max([*page.prefixes[-1:], *(row[0] for row in page.objects[-1:])])


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
