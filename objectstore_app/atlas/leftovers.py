"""What clients leave behind: uploads that nobody completes, rows of buckets that were deleted."""

from __future__ import annotations

from ..core.ids import BucketId, ShardId
from ..media.segments import DIRECTORY_SHARD
from ..metadata_service.api import AbortUpload, ForgetBucket
from ..metadata_service.directory import all_buckets
from ..metadata_service.errors import Refused
from ..metadata_service.survey import closed_buckets, uploads_page
from .work import Work

UPLOADS_PAGE = 100
_DAY_MS = 86_400_000


async def clean(work: Work) -> None:
    """Abort stale uploads and drop deleted buckets' rows. Raises UnavailableError."""
    for shard in work.data_shards:
        if work.settings.upload_days:
            await _abort_stale(work, shard)
    await _forget_buckets(work)


async def _abort_stale(work: Work, shard: ShardId) -> None:
    """As the client's own abort would: what parts hold becomes garbage."""
    limit_ms = work.now_ms() - int(work.settings.upload_days * _DAY_MS)
    after = (-1, b"", "")
    while page := uploads_page(work.views[shard], after, UPLOADS_PAGE):
        for bucket, upload in page:
            if upload.initiated_ms < limit_ms:
                abort = AbortUpload(bucket=bucket, key=upload.key, upload_id=upload.upload_id)
                try:
                    await work.ask(shard, [abort])
                except Refused:
                    continue  # completed or aborted meanwhile
                work.state.count("uploads_aborted", 1)
        bucket, upload = page[-1]
        after = (bucket, upload.key, upload.upload_id)


async def _forget_buckets(work: Work) -> None:
    """Closed rows are kept for the grace: a front end may be between the halves of its creation,
    and is told by the row that the bucket was deleted.
    """
    seen = work.state.closed_buckets
    closed = {shard: closed_buckets(work.views[shard]) for shard in work.data_shards}
    # The directory is read after the shards: a bucket is entered there first and leaves it last.
    named = {bucket.id for bucket in all_buckets(work.views[DIRECTORY_SHARD])}
    held = {bucket for buckets in closed.values() for bucket in buckets}
    work.state.closed_buckets = {
        bucket: seen.get(bucket, work.now_ms()) for bucket in held if bucket not in named
    }
    for shard, buckets in closed.items():
        for bucket in buckets:
            since = work.state.closed_buckets.get(bucket)
            if since is not None and since <= work.horizon_ms:
                await work.ask(shard, [ForgetBucket(bucket=BucketId(bucket))])
                del work.state.closed_buckets[bucket]
