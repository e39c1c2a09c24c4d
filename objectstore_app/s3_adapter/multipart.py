"""Multipart uploads: create, upload part, list parts, complete, abort.

An upload belongs to who created it; the bucket's owner may handle it, too.
"""

from __future__ import annotations

from ..core.limits import PAGE_KEYS_MAX, PART_NUMBER_MAX
from ..metadata_service.api import (
    AbortUpload,
    Attributes,
    Bucket,
    CompletedPart,
    CompleteUpload,
    CreateUpload,
    Upload,
    Written,
)
from ..object_controller import multipart as parts_of
from ..object_controller.integrity import DEFAULT_ALGORITHM
from ..object_controller.parts import stored_parts
from ..object_controller.results import expect
from ..object_controller.write import put_part
from ..protocol import checksums, xml_read, xml_write
from ..protocol.acl import Permission
from ..protocol.checksums import Algorithm
from ..protocol.errors import S3Error
from ..runtime.http import Response
from . import encryption
from .access import OwnerNames, bucket_for
from .attributes import attributes_of, checksum_headers, version_headers
from .bodies import open_payload, read_small_body
from .call import Call, empty, xml
from .objects import part_number, write_condition
from .unsupported import refuse_unsupported


async def create(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    if call.user is None:
        raise S3Error(
            "AccessDenied",
            "Anonymous users cannot initiate multipart uploads.  Please authenticate.",
        )
    refuse_unsupported(call)
    algorithm, kind = checksums.parse_multipart(
        call.text(b"x-amz-checksum-algorithm"), call.text(b"x-amz-checksum-type")
    )
    attributes = attributes_of(call)
    if not encryption.plain(call, bucket):
        attributes, _ = await encryption.for_write(call, bucket, attributes)
    mutation = CreateUpload(
        bucket=bucket.id,
        key=call.location.key,
        owner=call.writer_id(bucket),
        attributes=attributes,
        checksum_algorithm=algorithm.value if algorithm else "",
        checksum_type=kind,
    )
    upload = expect(await call.services.metadata.mutate(bucket, mutation), Upload)
    headers = list(encryption.headers_of(attributes.encryption))
    if algorithm is not None:
        headers += [
            ("x-amz-checksum-algorithm", algorithm.value),
            ("x-amz-checksum-type", kind),
        ]
    body = xml_write.initiate_multipart_upload(bucket.name, upload.key, upload.upload_id)
    return xml(body, headers)


async def upload_part(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    number = part_number(call)
    payload, promise = open_payload(call)
    upload = await own_upload(call, bucket)
    given = promise.checksum.algorithm.value if promise.checksum else ""
    if given and upload.checksum_algorithm not in ("", given):
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: "
            f"{upload.checksum_algorithm.lower()}, actual checksum Type: {given.lower()}",
        )
    transform = await encryption.for_part(call, bucket, upload)
    part = await put_part(
        call.services.storage, bucket, upload, number, payload, promise, transform=transform
    )
    shown = given or upload.checksum_algorithm or DEFAULT_ALGORITHM.value
    headers = checksum_headers({shown: part.checksums[shown]})
    headers.append(("ETag", f'"{part.etag}"'))
    headers += encryption.headers_of(upload.attributes.encryption)
    return empty(200, headers)


async def own_upload(call: Call, bucket: Bucket) -> Upload:
    """The upload that the query names. Raises: S3Error NoSuchUpload, AccessDenied."""
    upload_id = _upload_id(call)
    upload = await call.services.metadata.upload(bucket, call.location.key, upload_id)
    if upload is None:
        raise S3Error("NoSuchUpload", UploadId=upload_id)
    _check_owner(call, bucket, upload)
    return upload


def _upload_id(call: Call) -> str:
    return call.location.query.text("uploadId") or ""


def _check_owner(call: Call, bucket: Bucket, upload: Upload) -> None:
    user = call.user
    if user is None or user.id not in (upload.owner, bucket.owner):
        raise S3Error("AccessDenied")


async def list_parts(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    upload = await own_upload(call, bucket)
    query = call.location.query
    limit = query.integer("max-parts", PAGE_KEYS_MAX, PAGE_KEYS_MAX)
    marker = query.integer("part-number-marker", 0, PART_NUMBER_MAX)
    found = await call.services.metadata.parts(
        bucket, upload.upload_id, after=marker, limit=limit + 1
    )
    shown = found[:limit]
    [owner] = await OwnerNames(call).of(upload.owner)
    algorithm = upload.checksum_algorithm
    rows = [
        xml_write.ListedPart(
            part.number,
            part.modified_ms,
            part.etag,
            part.size,
            {algorithm: part.checksums[algorithm]} if algorithm in part.checksums else {},
        )
        for part in shown
    ]
    return xml(
        xml_write.list_parts(
            bucket.name,
            upload.key,
            upload.upload_id,
            rows,
            owner=owner,
            part_number_marker=marker,
            max_parts=limit,
            truncated=len(found) > limit > 0,
            checksum=algorithm,
            checksum_type=upload.checksum_type,
            url=query.text("encoding-type") == "url",
        )
    )


async def complete(call: Call) -> Response:
    """Put the parts together; repeating a completion that went through is answered alike."""
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    condition = write_condition(call)
    metadata = call.services.metadata
    key, upload_id = call.location.key, _upload_id(call)
    upload = await metadata.upload(bucket, key, upload_id)
    if upload is not None:
        _check_owner(call, bucket, upload)
    named = xml_read.parse_complete_multipart_upload(
        await read_small_body(call, checksum_of_body=False)
    )
    parts = tuple(CompletedPart(part.number, part.etag) for part in named)
    etag, attributes = "", Attributes()
    if upload is not None:
        stored = await stored_parts(metadata, bucket, upload_id)
        done = parts_of.complete(upload, stored, named)
        _check_promises(call, upload, done)
        parts, etag, attributes = done.parts, done.etag, done.attributes
    result = await metadata.mutate(
        bucket,
        CompleteUpload(
            bucket=bucket.id,
            key=key,
            upload_id=upload_id,
            parts=parts,
            etag=etag,
            attributes=attributes,
            condition=condition,
        ),
    )
    written = expect(result, Written)
    if upload is None:
        version = await metadata.lookup(bucket, key, written.version_id)
        if version is not None and version.etag == written.etag:
            attributes = version.attributes
    body = xml_write.complete_multipart_upload(
        _location(call),
        bucket.name,
        key,
        written.etag,
        attributes.checksums,
        attributes.checksum_type if attributes.checksums else "",
    )
    headers = version_headers(written)
    headers += encryption.headers_of(attributes.encryption)
    return xml(body, headers)


def _check_promises(call: Call, upload: Upload, done: parts_of.Completion) -> None:
    """Size, type and checksum of the whole object, where the completion names them."""
    kind = call.text(b"x-amz-checksum-type")
    if kind and upload.checksum_type and kind.upper() != upload.checksum_type:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created with the {upload.checksum_type} checksum type; the completion "
            f"cannot change it to {kind}.",
        )
    size = call.text(b"x-amz-mp-object-size")
    if size and size != str(done.size):
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {size} does not match what was "
            f"computed: {done.size}",
        )
    for name, value in done.attributes.checksums.items():
        algorithm = Algorithm(name)
        given = call.text(algorithm.header.encode())
        if given and given not in (value, value.partition("-")[0]):
            raise checksums.mismatch(algorithm)


def _location(call: Call) -> str:
    scheme = "https" if call.request.secure else "http"
    path = call.location.target.path.decode("latin-1")
    return f"{scheme}://{call.text(b'host')}{path}"


async def abort(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE)
    upload = await own_upload(call, bucket)
    await call.services.metadata.mutate(
        bucket,
        AbortUpload(bucket=bucket.id, key=upload.key, upload_id=upload.upload_id),
    )
    return empty(204)
