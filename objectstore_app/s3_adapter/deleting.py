"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from ..core.errors import ObjectStoreError
from ..metadata_service.api import (
    Bucket,
    DataMutation,
    Deleted,
    DeleteKey,
    DeleteVersion,
    WriteCondition,
)
from ..object_controller.results import expect
from ..protocol import xml_read, xml_write
from ..protocol.acl import Permission
from ..protocol.errors import S3Error
from ..protocol.routing import check_key
from ..runtime.http import Response
from .access import bucket_for
from .bodies import body_is_protected, read_small_body
from .call import Call, Headers, empty, xml
from .failures import as_s3_error
from .objects import write_condition
from .unsupported import refuse_unsupported


async def delete(call: Call) -> Response:
    """DeleteObject: no error for what is not there."""
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    condition = write_condition(call, deleting=True)
    mutation = await _mutation(call, bucket, call.location.key, call.version_id(), condition)
    deleted = expect(await call.services.metadata.mutate(bucket, mutation), Deleted)
    headers: Headers = []
    if deleted.version_id:
        headers.append(("x-amz-version-id", deleted.version_id))
    if deleted.delete_marker:
        headers.append(("x-amz-delete-marker", "true"))
    return empty(204, headers)


async def delete_many(call: Call) -> Response:
    """DeleteObjects: every key is told for itself, the answer is 200 whatever became of them. What
    can be decided goes to the writer at once, in the order of the request.
    """
    bucket = await bucket_for(call, Permission.WRITE)
    refuse_unsupported(call)
    if not body_is_protected(call):
        raise S3Error(
            "InvalidRequest",
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )
    asked = xml_read.parse_delete(await read_small_body(call))
    wanted = [await _checked(call, bucket, named) for named in asked.objects]
    mutations = [one for one in wanted if not isinstance(one, ObjectStoreError)]
    results = iter(await call.services.metadata.mutate_all(bucket, mutations))
    deleted: list[xml_write.DeletedObject] = []
    failed: list[xml_write.DeleteFailure] = []
    for named, one in zip(asked.objects, wanted, strict=True):
        outcome = one if isinstance(one, ObjectStoreError) else next(results)
        if isinstance(outcome, ObjectStoreError):
            failed.append(_failure(named, outcome))
        else:
            deleted.append(_success(named, expect(outcome, Deleted)))
    return xml(xml_write.delete_result(deleted, failed, quiet=asked.quiet))


async def _mutation(
    call: Call, bucket: Bucket, key: bytes, version_id: str, condition: WriteCondition
) -> DataMutation:
    """Raises: S3Error NoSuchVersion, PreconditionFailed."""
    if not version_id:
        return DeleteKey(
            bucket=bucket.id, key=key, owner=call.writer_id(bucket), condition=condition
        )
    if condition.if_match:
        # A version never changes, so that looking before deleting it is as good as deciding there.
        version = await call.services.metadata.lookup(bucket, key, version_id)
        if version is None:
            raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
        if condition.if_match not in ("*", version.etag):
            raise S3Error("PreconditionFailed", Condition="If-Match")
    return DeleteVersion(bucket=bucket.id, key=key, version_id=version_id)


async def _checked(
    call: Call, bucket: Bucket, named: xml_read.NamedObject
) -> DataMutation | ObjectStoreError:
    """What deletes the object, or why it cannot be."""
    try:
        check_key(named.key)
        if named.size is not None or named.modified_s is not None:
            raise S3Error(
                "NotImplemented", "Deleting by size or time of change is not implemented."
            )
        condition = WriteCondition(if_match=named.etag) if named.etag else _UNCONDITIONAL
        return await _mutation(call, bucket, named.key, named.version_id, condition)
    except ObjectStoreError as error:
        return error


_UNCONDITIONAL = WriteCondition()


def _success(named: xml_read.NamedObject, deleted: Deleted) -> xml_write.DeletedObject:
    marker = deleted.version_id if deleted.delete_marker else ""
    return xml_write.DeletedObject(named.key, named.version_id, deleted.delete_marker, marker)


def _failure(named: xml_read.NamedObject, error: ObjectStoreError) -> xml_write.DeleteFailure:
    told = as_s3_error(error)
    return xml_write.DeleteFailure(named.key, told.code, told.message, named.version_id)
