"""Buckets whose making or deletion stopped half-way, in a store whose shards lie in many pods.

A bucket is made first in the directory, then in its data shard, and deleted the other way round.
Asking the data shard to open it again changes nothing where it is open; where it is closed, its
deletion got that far, and the directory's half is done. So this may run at any time, beside who
makes or deletes the bucket, and twice.
"""

from __future__ import annotations

from contextlib import suppress

from ..runtime.logging import event
from .api import MetadataClient, OpenBucket, RemoveBucket
from .errors import BucketMissingError


async def complete_buckets(client: MetadataClient) -> int:
    """Finish what stopped half-way; how many deletions were finished. Raises what calls raise that
    find nobody: the rest waits for the next time.
    """
    finished = 0
    for user in await client.users():
        for bucket in await client.buckets(user.id):
            try:
                await client.mutate(bucket, OpenBucket(bucket=bucket.id))
            except BucketMissingError:
                with suppress(BucketMissingError):
                    await client.mutate_directory(RemoveBucket(id=bucket.id))
                    event("bucket_removed", bucket=bucket.name)
                    finished += 1
    return finished
