"""Buckets that were made or deleted half-way, finished over a metadata client."""

from __future__ import annotations

import asyncio

import msgspec

from objectstore_app.metadata_service.api import (
    AddUser,
    Bucket,
    CloseBucket,
    CreateBucket,
    OpenBucket,
    User,
)
from objectstore_app.metadata_service.halves import complete_buckets
from objectstore_app.metadata_service.memory import memory_service
from tests.engine.support import OWNER, put


def test_half_made_bucket_is_opened_and_half_deleted_one_is_removed() -> None:
    async def run() -> None:
        client = memory_service(data_shards=2).client
        user = await client.mutate_directory(AddUser(id=OWNER, email="one@example.com", name="One"))
        assert isinstance(user, User)
        found = {}
        for name in ("half-made", "half-deleted", "whole"):
            bucket = await client.mutate_directory(CreateBucket(name=name, owner=user.id))
            assert isinstance(bucket, Bucket)
            found[name] = bucket
        for name in ("half-deleted", "whole"):
            await client.mutate(found[name], OpenBucket(bucket=found[name].id))
        await client.mutate(found["half-deleted"], CloseBucket(bucket=found["half-deleted"].id))
        assert await complete_buckets(client) == 1
        assert await client.bucket("half-deleted") is None
        for name in ("half-made", "whole"):
            bucket = found[name]
            assert await client.bucket(name) == bucket
            await client.mutate(bucket, msgspec.structs.replace(put(b"key"), bucket=bucket.id))
        assert await complete_buckets(client) == 0

    asyncio.run(run())
