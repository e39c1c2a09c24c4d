"""Operations on objects: get, head, put, ACL, attributes."""

from __future__ import annotations

from ..core.ids import NULL_VERSION
from ..core.limits import PAGE_KEYS_MAX, PART_NUMBER_MAX, RECORD_BODY_BYTES_MAX
from ..metadata_service.api import (
    Body,
    Bucket,
    ObjectVersion,
    SetObjectAcl,
    WriteCondition,
    Written,
)
from ..object_controller.parts import KeptParts
from ..object_controller.results import expect
from ..object_controller.send import read_body
from ..object_controller.write import Target, put_object
from ..protocol import acl, conditions, xml_write
from ..protocol.acl import Permission
from ..protocol.dates import http_date
from ..protocol.errors import S3Error
from ..protocol.ranges import ByteRange, parse_range
from ..runtime.http import Response
from . import encryption
from .access import OwnerNames, any_bucket, bucket_for, check_object, missing_key
from .attributes import attributes_of, checksum_headers, object_headers, version_headers
from .bodies import open_payload
from .buckets import acl_asked_for
from .call import Call, Headers, empty, xml
from .unsupported import refuse_unsupported

UNCONDITIONAL = WriteCondition()


async def put(call: Call) -> Response:
    """PutObject: everything that headers can tell is checked before the body is read."""
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    attributes, transform = attributes_of(call), None
    if not encryption.plain(call, bucket):
        attributes, transform = await encryption.for_write(call, bucket, attributes)
    target = Target(
        bucket,
        call.location.key,
        call.writer_id(bucket),
        attributes,
        write_condition(call),
        transform,
    )
    payload, promise = open_payload(call)
    services = call.services
    stored = await put_object(services.storage, target, payload, promise)
    written = stored.written
    headers = checksum_headers(stored.checksums, "FULL_OBJECT")
    headers.append(("ETag", f'"{written.etag}"'))
    headers += version_headers(written)
    if attributes.encryption:
        headers += encryption.headers_of(attributes.encryption)
    return empty(200, headers)


def write_condition(call: Call, *, deleting: bool = False) -> WriteCondition:
    asked = conditions.parse_write(call.headers, deleting=deleting)
    if asked is conditions.UNCONDITIONAL:
        return UNCONDITIONAL
    return WriteCondition(if_match=asked.if_match, if_none_match=asked.if_none_match)


async def get(call: Call) -> Response:
    """GetObject and HeadObject."""
    bucket = await any_bucket(call)
    version_id = call.version_id()
    whole = 0 if call.request.method == "HEAD" else RECORD_BODY_BYTES_MAX
    version = await readable_version(
        call, bucket, call.location.key, version_id, body_bytes_max=whole
    )
    headers = object_headers(call, version, named=bool(version_id))
    customer_key = encryption.check_read(call, version.attributes.encryption)
    if version.attributes.encryption:
        headers += encryption.headers_of(version.attributes.encryption)
    conditions.check_read(call.headers, version.etag, version.modified_ms)
    part, status = _part_asked_for(call, version)
    chosen = part or _range_asked_for(call, version)
    start, length = chosen or (0, version.size)
    if chosen is not None:
        headers.append(("Content-Range", chosen.content_range(version.size)))
        status = 206
    _add_checksum(call, version, headers, ranged=chosen is not None)
    if call.request.method == "HEAD":
        return Response(status, headers, b"", length)
    stored: Body | KeptParts = version.body
    reader = call.services.reader
    if version.body.coding or version.body.upload:
        stored, reader = await encryption.opened(call, bucket, version, customer_key)
    body = await read_body(stored, reader, start, length, from_files=not call.request.secure)
    return Response(status, headers, body, length)


async def readable_version(
    call: Call, bucket: Bucket, key: bytes, version_id: str, *, body_bytes_max: int = 0
) -> ObjectVersion:
    """The version to read, if it is one with bytes and the caller may have them; its body may come
    along, as `MetadataClient.lookup` says.

    Raises: S3Error NoSuchKey, NoSuchVersion, MethodNotAllowed (a delete marker by its id),
    AccessDenied.
    """
    version = await call.services.metadata.lookup(
        bucket, key, version_id, body_bytes_max=body_bytes_max
    )
    if version is None:
        error = missing_key(call, bucket, key)
        if version_id and error.code == "NoSuchKey":
            raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
        raise error
    if version.delete_marker:
        headers = [
            ("x-amz-delete-marker", "true"),
            ("x-amz-version-id", version.version_id),
            ("Last-Modified", http_date(version.modified_ms // 1000)),
        ]
        error = missing_key(call, bucket, key)
        if error.code != "NoSuchKey":
            raise error  # who may not list learns nothing of what was there
        if version_id:
            raise S3Error(
                "MethodNotAllowed",
                headers=[*headers, ("Allow", "DELETE")],
                Method=call.request.method,
                ResourceType="DeleteMarker",
            )
        error.headers += headers[:2]
        raise error
    check_object(call, bucket, version, Permission.READ)
    return version


def _part_asked_for(call: Call, version: ObjectVersion) -> tuple[ByteRange | None, int]:
    """The range of `?partNumber=`, and the status without another range."""
    if not call.location.query or "partNumber" not in call.location.query:
        return None, 200
    if b"range" in call.headers:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber.")
    number = part_number(call)
    sizes = version.attributes.part_sizes or (version.size,)
    if number > len(sizes):
        raise S3Error("InvalidPartNumber", PartNumberRequested=number, ActualPartCount=len(sizes))
    if not version.attributes.part_sizes:
        return None, 200
    return ByteRange(sum(sizes[: number - 1]), sizes[number - 1]), 206


def part_number(call: Call) -> int:
    """Raises: S3Error InvalidArgument unless it is 1 to PART_NUMBER_MAX."""
    value = call.location.query.raw("partNumber") or b""
    if not value.isdigit() or len(value) > 9 or not 1 <= int(value) <= PART_NUMBER_MAX:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=value,
        )
    return int(value)


def _range_asked_for(call: Call, version: ObjectVersion) -> ByteRange | None:
    asked = call.headers.get(b"range")
    if asked is None:
        return None
    if_range = call.headers.get(b"if-range")
    if not conditions.range_applies(if_range, version.etag, version.modified_ms):
        return None
    return parse_range(asked, version.size)


def _add_checksum(call: Call, version: ObjectVersion, headers: Headers, *, ranged: bool) -> None:
    """The checksum where it is asked for and covers what is sent; the number of parts."""
    attributes = version.attributes
    by_part = bool(call.location.query) and "partNumber" in call.location.query
    if by_part and attributes.part_sizes:
        headers.append(("x-amz-mp-parts-count", str(len(attributes.part_sizes))))
    if call.headers.get(b"x-amz-checksum-mode", b"").upper() != b"ENABLED":
        return
    if not ranged:
        headers += checksum_headers(attributes.checksums, attributes.checksum_type)
    elif by_part and attributes.part_checksums:
        value = attributes.part_checksums[part_number(call) - 1]
        headers += checksum_headers(
            dict.fromkeys(attributes.checksums, value), attributes.checksum_type
        )


async def get_acl(call: Call) -> Response:
    bucket = await any_bucket(call)
    version = await _version_for_acl(call, bucket, Permission.READ_ACP)
    owner, _ = await OwnerNames(call).of(version.owner, bucket.owner)
    canned = version.attributes.acl
    grants = acl.grants_of(canned, version.owner, bucket.owner)
    return xml(xml_write.access_control_policy(owner, grants))


async def put_acl(call: Call) -> Response:
    bucket = await any_bucket(call)
    version = await _version_for_acl(call, bucket, Permission.WRITE_ACP)
    canned = await acl_asked_for(call, version.owner, of_bucket=False, bucket_owner=bucket.owner)
    changed = await call.services.metadata.mutate(
        bucket,
        SetObjectAcl(bucket=bucket.id, key=version.key, acl=canned, version_id=version.version_id),
    )
    return empty(200, version_headers(expect(changed, Written)))


async def _version_for_acl(call: Call, bucket: Bucket, permission: Permission) -> ObjectVersion:
    key, version_id = call.location.key, call.version_id()
    version = await call.services.metadata.lookup(bucket, key, version_id)
    if version is None or version.delete_marker:
        error = missing_key(call, bucket, key)
        if error.code == "NoSuchKey" and version_id:
            raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
        raise error
    check_object(call, bucket, version, permission)
    return version


async def get_attributes(call: Call) -> Response:
    """GetObjectAttributes: what x-amz-object-attributes names, without the object."""
    bucket = await any_bucket(call)
    version_id = call.version_id()
    wanted = {
        name.strip() for name in call.text(b"x-amz-object-attributes").split(",") if name.strip()
    }
    if not wanted or not wanted <= xml_write.OBJECT_ATTRIBUTES:
        raise S3Error("InvalidArgument", "Invalid attribute name specified.")
    version = await readable_version(call, bucket, call.location.key, version_id)
    attributes = version.attributes
    encryption.check_read(call, attributes.encryption)
    headers = [("Last-Modified", http_date(version.modified_ms // 1000))]
    if version_id or version.version_id != "null":
        headers.append(("x-amz-version-id", version.version_id))
    body = xml_write.object_attributes(
        wanted,
        etag=version.etag,
        size=version.size,
        checksums=attributes.checksums,
        checksum_type=attributes.checksum_type,
        part_sizes=attributes.part_sizes,
        part_checksums=attributes.part_checksums,
        part_number_marker=_number(call, b"x-amz-part-number-marker", 0),
        max_parts=_number(call, b"x-amz-max-parts", PAGE_KEYS_MAX),
    )
    return xml(body, headers)


def _number(call: Call, header: bytes, default: int) -> int:
    value = call.headers.get(header)
    if value is None:
        return default
    if not value.isdigit() or len(value) > 9:
        raise S3Error("InvalidArgument", ArgumentName=header.decode(), ArgumentValue=value)
    return int(value)


async def get_tagging(call: Call) -> Response:
    """GetObjectTagging: none, since none can be set. The aws cli asks before it copies large
    objects.
    """
    bucket = await any_bucket(call)
    version = await readable_version(call, bucket, call.location.key, call.version_id())
    named = version.version_id != NULL_VERSION
    return xml(xml_write.no_tags(), [("x-amz-version-id", version.version_id)] if named else [])
