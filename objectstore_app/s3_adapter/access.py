"""Who may do what with a bucket or an object: ACLs applied to the caller of a request.

A bucket's owner may do everything in it, reading what others put there included (PRODUCT O4). A
missing bucket is told as missing; a missing key only to who may list the bucket, so that nobody can
probe for keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from ..metadata_service.api import Bucket, ObjectVersion
from ..protocol import acl
from ..protocol.acl import Permission
from ..protocol.errors import S3Error
from ..protocol.xml_write import Owner
from .call import Call


async def any_bucket(call: Call) -> Bucket:
    """The bucket of the request, whoever asks. Raises: S3Error NoSuchBucket, AccessDenied (it
    belongs to another than x-amz-expected-bucket-owner says).
    """
    name = call.location.bucket
    found = call.found_bucket or (await call.services.metadata.bucket(name),)
    return _existing(call, name, found[0], b"x-amz-expected-bucket-owner")


async def source_bucket(call: Call, name: str) -> Bucket:
    """The bucket that a copy reads from. Raises: as any_bucket."""
    found = await call.services.metadata.bucket(name)
    return _existing(call, name, found, b"x-amz-source-expected-bucket-owner")


def _existing(call: Call, name: str, bucket: Bucket | None, expected_owner: bytes) -> Bucket:
    if bucket is None:
        raise S3Error("NoSuchBucket", BucketName=name)
    if expected_owner in call.headers and call.text(expected_owner) != bucket.owner:
        raise S3Error("AccessDenied")
    return bucket


async def owned_bucket(call: Call) -> Bucket:
    """The bucket, for what only its owner may do. Raises: S3Error NoSuchBucket, AccessDenied."""
    bucket = await any_bucket(call)
    if call.user is None or call.user.id != bucket.owner:
        raise S3Error("AccessDenied")
    return bucket


async def bucket_for(call: Call, permission: Permission) -> Bucket:
    """The bucket, if its ACL gives the caller that. Raises: S3Error NoSuchBucket, AccessDenied."""
    bucket = await any_bucket(call)
    if not may_bucket(call, bucket, permission):
        raise S3Error("AccessDenied")
    return bucket


def may_bucket(call: Call, bucket: Bucket, permission: Permission) -> bool:
    user = call.user
    if user is not None and user.id == bucket.owner:
        return True
    return acl.allows(
        bucket.acl,
        permission,
        owner=bucket.owner,
        requester=None if user is None else user.id,
    )


def check_object(
    call: Call, bucket: Bucket, version: ObjectVersion, permission: Permission
) -> None:
    """Raises: S3Error AccessDenied unless the object's ACL gives the caller that."""
    user = call.user
    if user is not None and user.id == bucket.owner and permission is not Permission.WRITE_ACP:
        return
    if not acl.allows(
        version.attributes.acl,
        permission,
        owner=version.owner,
        requester=None if user is None else user.id,
        bucket_owner=bucket.owner,
    ):
        raise S3Error("AccessDenied")


def missing_key(call: Call, bucket: Bucket, key: bytes) -> S3Error:
    """How a missing key is told: as missing only to who may list the bucket."""
    if may_bucket(call, bucket, Permission.READ):
        return S3Error("NoSuchKey", Key=key)
    return S3Error("AccessDenied")


class OwnerNames:
    """Display names of owners, looked up at most once a request and only for other people."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._known: dict[str, Owner] = {}
        if call.user is not None:
            self._known[call.user.id] = Owner(call.user.id, call.user.name)
        self._complete = False

    async def by_id(self, ids: Set[str]) -> Mapping[str, Owner]:
        """An owner for each id; without a name where the user is gone."""
        known = self._known
        if not self._complete and not ids <= known.keys():
            for user in await self._call.services.metadata.users():
                known[user.id] = Owner(user.id, user.name)
            self._complete = True
        return {one: known.get(one) or Owner(one) for one in ids}

    async def of(self, *ids: str) -> list[Owner]:
        owners = await self.by_id(frozenset(ids))
        return [owners[one] for one in ids]
