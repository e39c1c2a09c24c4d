"""The S3 application: one request in, one response out.

Order of things, for every request: take host and target apart (pure), prove who sends it, pick the
operation, run it. An operation checks bucket, access and cheap headers before it first reads the
body, so that `Expect: 100-continue` is answered with the refusal instead of an invitation.
Whatever the layers below raise becomes an S3 error in `failures`; a programmer's fault goes on to
the server, which answers 500 and logs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..core.errors import ObjectStoreError
from ..protocol.errors import S3Error
from ..protocol.routing import Location, bucket_of_host, locate, operation_of
from ..runtime.http import Application, Request, Response
from . import admin, buckets, copying, deleting, encryption, listing, multipart, objects, service
from .authentication import authenticate
from .call import Call
from .configurations import ABSENT
from .failures import as_s3_error
from .services import Services

Operation = Callable[[Call], Awaitable[Response]]

OPERATIONS: dict[str, Operation] = {
    "ListBuckets": service.list_buckets,
    "CreateBucket": buckets.create,
    "HeadBucket": buckets.head,
    "DeleteBucket": buckets.delete,
    "GetBucketLocation": buckets.get_location,
    "GetBucketVersioning": buckets.get_versioning,
    "PutBucketVersioning": buckets.put_versioning,
    "GetBucketAcl": buckets.get_acl,
    "PutBucketAcl": buckets.put_acl,
    "GetBucketEncryption": encryption.get_bucket,
    "PutBucketEncryption": encryption.put_bucket,
    "DeleteBucketEncryption": encryption.delete_bucket,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListObjectVersions": listing.list_versions,
    "ListMultipartUploads": listing.list_uploads,
    "DeleteObjects": deleting.delete_many,
    "GetObject": objects.get,
    "HeadObject": objects.get,
    "PutObject": objects.put,
    "DeleteObject": deleting.delete,
    "GetObjectAcl": objects.get_acl,
    "PutObjectAcl": objects.put_acl,
    "GetObjectTagging": objects.get_tagging,
    "GetObjectAttributes": objects.get_attributes,
    "CopyObject": copying.copy_object,
    "UploadPartCopy": copying.upload_part_copy,
    "CreateMultipartUpload": multipart.create,
    "UploadPart": multipart.upload_part,
    "ListParts": multipart.list_parts,
    "CompleteMultipartUpload": multipart.complete,
    "AbortMultipartUpload": multipart.abort,
    **ABSENT,
}


def application(services: Services) -> Application:
    """The application that the server calls for every request it does not answer itself."""

    async def handle(request: Request) -> Response:
        host = request.headers.get(b"host", b"")
        if request.target.startswith(admin.PREFIX) and not bucket_of_host(host, services.domains):
            return await admin.handle_admin(services, request)
        location: Location | None = None
        try:
            location = locate(request.target, host, services.domains)
            call = await authenticate(services, request, location)
            name = operation_of(
                request.method, location, copy_source=b"x-amz-copy-source" in call.headers
            )
            note = request.note
            note["operation"] = name
            note["bucket"] = location.bucket
            return await OPERATIONS[name](call)
        except ObjectStoreError as error:
            return _error_response(request, location, as_s3_error(error))

    return handle


def _error_response(request: Request, location: Location | None, error: S3Error) -> Response:
    """The error as XML; without a body where HTTP allows none."""
    request.note["error"] = error.code
    headers = list(error.headers)
    if request.method == "HEAD" or error.status == 304:
        return Response(error.status, headers, b"", None if error.status == 304 else 0)
    body = error.to_xml(_resource(request, location), request.request_id)
    headers.append(("Content-Type", "application/xml"))
    return Response(error.status, headers, body, len(body))


def _resource(request: Request, location: Location | None) -> bytes:
    if location is None:
        return request.target.partition(b"?")[0]
    if not location.key:
        return b"/" + location.bucket.encode()
    return b"/" + location.bucket.encode() + b"/" + location.key
