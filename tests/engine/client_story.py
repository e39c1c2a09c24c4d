"""What every MetadataClient answers alike, whatever stands behind it."""

from __future__ import annotations

import msgspec
import pytest

from objectstore_app.core.limits import RECORD_BODY_BYTES_MAX
from objectstore_app.metadata_service.api import (
    AccessKey,
    AddUser,
    Bucket,
    CloseBucket,
    CreateBucket,
    CreateUpload,
    Deleted,
    DeleteKey,
    MetadataClient,
    OpenBucket,
    PutVersion,
    RemoveBucket,
    RemoveUser,
    Upload,
    WriteCondition,
)
from objectstore_app.metadata_service.errors import (
    BucketExistsError,
    BucketMissingError,
    BucketNotEmptyError,
    ConditionFailedError,
    KeyMissingError,
    UserExistsError,
)
from tests.engine.support import OWNER, put


async def new_bucket(client: MetadataClient, name: str = "bucket") -> Bucket:
    bucket = await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
    assert isinstance(bucket, Bucket)
    await client.mutate(bucket, OpenBucket(bucket=bucket.id))
    return bucket


def version(bucket: Bucket, key: bytes, data: bytes = b"") -> PutVersion:
    return msgspec.structs.replace(put(key, data), bucket=bucket.id)


async def a_buckets_life(client: MetadataClient) -> None:
    """Every operation on the only bucket of a store, from its making to its end."""
    assert await client.bucket("bucket") is None
    bucket = await new_bucket(client)
    assert await client.bucket("bucket") == bucket
    with pytest.raises(BucketExistsError) as refusal:
        await client.mutate_directory(CreateBucket(name="bucket", owner=OWNER))
    assert (refusal.value.subject, refusal.value.hint) == ("bucket", OWNER)
    for key in (b"a/1", b"a/2", b"b"):
        await client.mutate(bucket, version(bucket, key, b"body " + key))
    found = await client.lookup(bucket, b"b", body_bytes_max=RECORD_BODY_BYTES_MAX)
    assert found is not None
    assert found.body.inline == b"body b"
    page = await client.list_objects(bucket, delimiter=b"/", limit=1)
    assert (page.prefixes, page.truncated, page.next_after) == ([b"a/"], True, b"a/")
    rows = (await client.list_objects(bucket, prefix=b"b", owners=True)).objects
    assert [(row[0], row[4], row[6]) for row in rows] == [(b"b", 6, OWNER)]
    versions = await client.list_versions(bucket, prefix=b"a/")
    assert [row[0] for row in versions.versions] == [b"a/1", b"a/2"]
    upload = await client.mutate(bucket, CreateUpload(bucket=bucket.id, key=b"u", owner=OWNER))
    assert isinstance(upload, Upload)
    assert await client.upload(bucket, b"u", upload.upload_id) == upload
    assert (await client.list_uploads(bucket)).entries == (upload,)
    assert list(await client.parts(bucket, upload.upload_id)) == []
    usage = (await client.state(bucket)).usage
    assert (usage.objects, usage.size_bytes, usage.uploads) == (3, 22, 1)
    assert [(one.name, one.usage) for one in await client.usage("", 10)] == [("bucket", usage)]
    assert await client.key_use() == {}
    assert list(await client.buckets(OWNER)) == [bucket]
    with pytest.raises(BucketNotEmptyError):
        await client.mutate(bucket, CloseBucket(bucket=bucket.id))
    deletes = [
        DeleteKey(bucket=bucket.id, key=key, owner=OWNER, condition=condition)
        for key in (b"a/1", b"a/2", b"b", b"b")
        for condition in (WriteCondition(if_match="other"), WriteCondition())
    ]
    outcomes = await client.mutate_all(bucket, deletes)
    kinds = [type(one) for one in outcomes]
    assert kinds == [ConditionFailedError, Deleted] * 3 + [KeyMissingError, Deleted]
    assert await client.mutate_all(bucket, []) == []
    await client.mutate(bucket, CloseBucket(bucket=bucket.id))
    with pytest.raises(BucketMissingError):
        await client.mutate(bucket, version(bucket, b"late"))
    await client.mutate_directory(RemoveBucket(id=bucket.id))
    assert await client.bucket("bucket") is None


async def a_persons_life(client: MetadataClient) -> None:
    """Someone comes with a key, and goes."""
    key = AccessKey(access_key="AK", sealed_secret=b"s", created_ms=1)
    add = AddUser(id=OWNER, email="a@b.example", name="A", keys=(key,))
    assert await client.user_of_key("AK") is None
    await client.mutate_directory(add)
    found = await client.user_of_key("AK")
    assert found is not None
    assert found[0].id == OWNER
    with pytest.raises(UserExistsError):
        await client.mutate_directory(add)
    assert [user.email for user in await client.users()] == ["a@b.example"]
    await client.mutate_directory(RemoveUser(id=OWNER))
    assert await client.user_of_key("AK") is None
