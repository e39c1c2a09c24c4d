"""The reading half of a metadata client that has the views at hand.

Reads run on the calling loop: a point read costs less than a hop to a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import apsw

from ..core.ids import ShardId, UserId
from ..core.limits import PAGE_KEYS_MAX, PART_NUMBER_MAX
from . import directory, keys, listing, reads
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    BucketUsage,
    ObjectsPage,
    ObjectVersion,
    Part,
    StoreKey,
    Upload,
    UploadsPage,
    Usage,
    User,
    VersionsPage,
)


class ViewReads:
    """The reads of MetadataClient over open connections; subclasses add the mutations."""

    def __init__(
        self, directory_view: apsw.Connection, data_views: Mapping[ShardId, apsw.Connection]
    ) -> None:
        self._directory = directory_view
        self._data = data_views

    async def bucket(self, name: str) -> Bucket | None:
        return directory.find_bucket(self._directory, name)

    async def buckets(self, owner: UserId) -> Sequence[Bucket]:
        return directory.buckets_of(self._directory, owner)

    async def user_of_key(self, access_key: str) -> tuple[User, AccessKey] | None:
        return directory.find_key(self._directory, access_key)

    async def user_and_bucket(
        self, access_key: str, bucket: str
    ) -> tuple[tuple[User, AccessKey] | None, Bucket | None]:
        return await self.user_of_key(access_key), await self.bucket(bucket)

    async def usage(self, after: str, limit: int) -> Sequence[BucketUsage]:
        return [
            BucketUsage(
                name=bucket.name,
                owner=bucket.owner,
                usage=reads.bucket_state(self._data[bucket.shard], bucket.id).usage,
            )
            for bucket in directory.buckets_after(self._directory, after, limit)
        ]

    def total_usage(self) -> tuple[int, Usage]:
        """The number of buckets, and what all of them hold."""
        return reads.add_usage(reads.total_usage(view) for view in self._data.values())

    async def users(self) -> Sequence[User]:
        return directory.all_users(self._directory)

    async def store_keys(self) -> Sequence[StoreKey]:
        return directory.all_store_keys(self._directory)

    async def key_use(self) -> dict[int, int]:
        total: dict[int, int] = {}
        for view in self._data.values():
            for key, bodies in keys.key_use(view).items():
                total[key] = total.get(key, 0) + bodies
        return total

    async def state(self, bucket: Bucket) -> BucketState:
        return reads.bucket_state(self._data[bucket.shard], bucket.id)

    async def lookup(
        self, bucket: Bucket, key: bytes, version_id: str = "", *, body_bytes_max: int = 0
    ) -> ObjectVersion | None:
        return reads.lookup(self._data[bucket.shard], bucket.id, key, version_id)

    async def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after: bytes = b"",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
        owners: bool = False,
    ) -> ObjectsPage:
        view = self._data[bucket.shard]
        return listing.list_objects(view, bucket.id, prefix, after, delimiter, limit, owners=owners)

    async def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_version_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> VersionsPage:
        return listing.list_versions(
            self._data[bucket.shard], bucket.id, prefix, after_key, after_version_id, delimiter,
            limit,
        )  # fmt: skip

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> UploadsPage:
        return listing.list_uploads(
            self._data[bucket.shard], bucket.id, prefix, after_key, after_upload_id, delimiter,
            limit,
        )  # fmt: skip

    async def upload(self, bucket: Bucket, key: bytes, upload_id: str) -> Upload | None:
        return reads.find_upload(self._data[bucket.shard], bucket.id, key, upload_id)

    async def parts(
        self, bucket: Bucket, upload_id: str, *, after: int = 0, limit: int = PART_NUMBER_MAX
    ) -> Sequence[Part]:
        return reads.parts_of(self._data[bucket.shard], bucket.id, upload_id, after, limit)


def close_views(views: Sequence[apsw.Connection]) -> None:
    for view in views:
        view.close(True)
