"""Operations on a bucket itself: create, head, delete, location, versioning, ACL."""

from __future__ import annotations

import contextlib

from ..core.ids import UserId
from ..metadata_service.api import (
    Bucket,
    CloseBucket,
    CreateBucket,
    OpenBucket,
    RemoveBucket,
    SetBucketAcl,
    SetVersioning,
)
from ..metadata_service.errors import BucketExistsError, BucketMissingError
from ..object_controller.results import expect
from ..protocol import acl, xml_read, xml_write
from ..protocol.acl import Permission
from ..protocol.errors import S3Error
from ..runtime.http import Response
from .access import OwnerNames, bucket_for, owned_bucket
from .bodies import read_small_body
from .call import Call, empty, xml
from .unsupported import refuse_unsupported

REGION_OF_OLD = "us-east-1"
"""Where creating one's own bucket again is no error."""


async def create(call: Call) -> Response:
    """Make a bucket, private to the caller unless a canned ACL says otherwise."""
    user = call.user
    if user is None:
        raise S3Error("AccessDenied")
    _refuse_settings(call)
    canned = acl.parse_canned(call.text(b"x-amz-acl"), of_bucket=True)
    name = call.location.bucket
    region = call.services.region
    asked = xml_read.parse_create_bucket(await read_small_body(call))
    if asked not in ("", region):
        raise S3Error("InvalidLocationConstraint", LocationConstraint=asked)
    bucket = await _create(call, CreateBucket(name=name, owner=user.id, acl=canned, region=region))
    # The data shard's half; repeated for a bucket that exists, in case its making was cut short.
    try:
        await call.services.metadata.mutate(bucket, OpenBucket(bucket=bucket.id))
    except BucketMissingError as error:
        await _finish_deletion(call, bucket)
        raise S3Error("OperationAborted") from error
    return empty(200, [("Location", f"/{name}")])


async def _finish_deletion(call: Call, bucket: Bucket) -> None:
    """The directory's half of a deletion that is under way, or was cut short."""
    with contextlib.suppress(BucketMissingError):
        await call.services.metadata.mutate_directory(RemoveBucket(id=bucket.id))


async def _create(call: Call, mutation: CreateBucket) -> Bucket:
    metadata = call.services.metadata
    try:
        return expect(await metadata.mutate_directory(mutation), Bucket)
    except BucketExistsError as error:
        bucket = await metadata.bucket(mutation.name)
        if bucket is None:
            raise S3Error("OperationAborted") from error
        if bucket.owner != mutation.owner:
            raise S3Error("BucketAlreadyExists", BucketName=mutation.name) from error
        if mutation.region != REGION_OF_OLD:
            raise S3Error("BucketAlreadyOwnedByYou", BucketName=mutation.name) from error
        return bucket


def _refuse_settings(call: Call) -> None:
    refuse_unsupported(call)
    if call.text(b"x-amz-bucket-object-lock-enabled").lower() == "true":
        raise S3Error(
            "NotImplemented",
            "Object Lock is not implemented by this store.",
            Header="x-amz-bucket-object-lock-enabled",
        )
    ownership = call.text(b"x-amz-object-ownership")
    if ownership not in ("", "ObjectWriter"):
        raise S3Error(
            "NotImplemented",
            "Only the object ownership ObjectWriter is implemented.",
            Header="x-amz-object-ownership",
        )


async def head(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.READ)
    return empty(200, [("x-amz-bucket-region", bucket.region)])


async def delete(call: Call) -> Response:
    """Close the data shard's half first: it decides, in its order, whether the bucket is empty."""
    bucket = await owned_bucket(call)
    await call.services.metadata.mutate(bucket, CloseBucket(bucket=bucket.id))
    # It may be gone by now: a writer that starts finishes what is closed.
    await _finish_deletion(call, bucket)
    return empty(204)


async def get_location(call: Call) -> Response:
    bucket = await owned_bucket(call)
    return xml(xml_write.location_constraint(bucket.region))


async def get_versioning(call: Call) -> Response:
    bucket = await owned_bucket(call)
    state = await call.services.metadata.state(bucket)
    return xml(xml_write.versioning_configuration(state.versioning))


async def put_versioning(call: Call) -> Response:
    bucket = await owned_bucket(call)
    refuse_unsupported(call)
    status = xml_read.parse_versioning(await read_small_body(call))
    await call.services.metadata.mutate(bucket, SetVersioning(bucket=bucket.id, state=status))
    return empty()


async def get_acl(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.READ_ACP)
    [owner] = await OwnerNames(call).of(bucket.owner)
    return xml(xml_write.access_control_policy(owner, acl.grants_of(bucket.acl, bucket.owner)))


async def put_acl(call: Call) -> Response:
    bucket = await bucket_for(call, Permission.WRITE_ACP)
    canned = await acl_asked_for(call, bucket.owner, of_bucket=True)
    await call.services.metadata.mutate_directory(SetBucketAcl(id=bucket.id, acl=canned))
    return empty()


async def acl_asked_for(
    call: Call, owner: UserId, *, of_bucket: bool, bucket_owner: str = ""
) -> str:
    """The canned ACL of a Put*Acl request: by header, or by XML that equals one.

    Raises: S3Error UnexpectedContent for both at once, MissingSecurityHeader for neither.
    """
    refuse_unsupported(call)
    body = await read_small_body(call)
    header = call.text(b"x-amz-acl")
    if header and body:
        raise S3Error("UnexpectedContent")
    if header:
        return acl.parse_canned(header, of_bucket=of_bucket)
    if not body:
        raise S3Error("MissingSecurityHeader", MissingHeaderName="x-amz-acl")
    policy = xml_read.parse_access_control_policy(body)
    for grant in policy.grants:
        if grant.user and not await _known(call, grant.user):
            raise S3Error("InvalidArgument", "Invalid id", ArgumentName="CanonicalUser/ID")
    return acl.canned_of_policy(policy, owner=owner, bucket_owner=bucket_owner, of_bucket=of_bucket)


async def _known(call: Call, user_id: str) -> bool:
    return any(user.id == user_id for user in await call.services.metadata.users())
