"""CopyObject and UploadPartCopy: the source is read as the caller, the destination written anew."""

from __future__ import annotations

from ..core.limits import COPY_SOURCE_BYTES_MAX, PUT_BYTES_MAX
from ..metadata_service.api import Attributes, Bucket, ObjectVersion
from ..object_controller.send import StoredPayload
from ..object_controller.write import Target, put_object, put_part
from ..protocol import acl, checksums, conditions, xml_write
from ..protocol.acl import Permission
from ..protocol.checksums import FULL_OBJECT, Algorithm
from ..protocol.errors import S3Error
from ..protocol.ranges import parse_copy_range
from ..protocol.routing import CopySource, parse_copy_source
from ..runtime.http import Response
from . import encryption
from .access import bucket_for, source_bucket
from .attributes import attributes_of, version_headers
from .call import Call, Headers, xml
from .multipart import own_upload
from .objects import part_number, readable_version, write_condition
from .unsupported import refuse_unsupported


async def copy_object(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    replace = _directive(call) == "REPLACE"
    condition = write_condition(call)
    named, origin, source = await _source(call)
    if source.size > COPY_SOURCE_BYTES_MAX:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy "
            f"source: {COPY_SOURCE_BYTES_MAX}",
        )
    onto_itself = origin.id == bucket.id and named.key == call.location.key
    plain = encryption.plain(call, bucket)
    if onto_itself and plain and not replace and not named.version_id:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    attributes = attributes_of(call) if replace else _copied_attributes(call, source.attributes)
    transform = None
    if not plain:
        attributes, transform = await encryption.for_write(call, bucket, attributes)
    target = Target(
        bucket, call.location.key, call.writer_id(bucket), attributes, condition, transform
    )
    body, reader = await encryption.opened_source(call, origin, source)
    services = call.services
    stored = await put_object(
        services.storage,
        target,
        StoredPayload(body, reader, 0, source.size),
        algorithm=_algorithm(call, source),
    )
    written = stored.written
    headers = _source_version(named, source)
    headers += version_headers(written)
    headers += encryption.headers_of(attributes.encryption)
    return xml(
        xml_write.copy_object(written.modified_ms, written.etag, stored.checksums, FULL_OBJECT),
        headers,
    )


async def upload_part_copy(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    number = part_number(call)
    upload = await own_upload(call, bucket)
    named, origin, source = await _source(call)
    start, length = 0, source.size
    asked = call.headers.get(b"x-amz-copy-source-range")
    if asked is not None:
        start, length = parse_copy_range(asked, source.size)
    if length > PUT_BYTES_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=length, MaxSizeAllowed=PUT_BYTES_MAX)
    transform = await encryption.for_part(call, bucket, upload)
    stored, reader = await encryption.opened_source(call, origin, source)
    services = call.services
    part = await put_part(
        services.storage,
        bucket,
        upload,
        number,
        StoredPayload(stored, reader, start, length),
        transform=transform,
    )
    shown = part.checksums if upload.checksum_algorithm else {}
    body = xml_write.copy_part(part.modified_ms, part.etag, shown)
    headers = _source_version(named, source)
    headers += encryption.headers_of(upload.attributes.encryption)
    return xml(body, headers)


async def _source(call: Call) -> tuple[CopySource, Bucket, ObjectVersion]:
    """The source, which the caller may read and whose conditions hold."""
    named = parse_copy_source(call.headers[b"x-amz-copy-source"])
    bucket = await source_bucket(call, named.bucket)
    try:
        version = await readable_version(call, bucket, named.key, named.version_id)
    except S3Error as error:
        if error.code == "MethodNotAllowed":
            raise S3Error(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by "
                "version id.",
            ) from error
        raise
    conditions.check_copy_source(call.headers, version.etag, version.modified_ms)
    return named, bucket, version


def _directive(call: Call) -> str:
    directive = call.text(b"x-amz-metadata-directive") or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            "Unknown metadata directive.",
            ArgumentName="x-amz-metadata-directive",
            ArgumentValue=directive,
        )
    return directive


def _copied_attributes(call: Call, source: Attributes) -> Attributes:
    """Metadata of the source; an ACL is never copied."""
    return Attributes(
        headers=source.headers,
        user=source.user,
        acl=acl.parse_canned(call.text(b"x-amz-acl"), of_bucket=False),
    )


def _algorithm(call: Call, source: ObjectVersion) -> Algorithm | None:
    """The checksum asked for, else the source's own."""
    asked = call.text(b"x-amz-checksum-algorithm")
    if asked:
        return checksums.parse_algorithm(asked, "x-amz-checksum-algorithm")
    for name in source.attributes.checksums:
        return Algorithm(name)
    return None


def _source_version(named: CopySource, source: ObjectVersion) -> Headers:
    if named.version_id or source.version_id != "null":
        return [("x-amz-copy-source-version-id", source.version_id)]
    return []
