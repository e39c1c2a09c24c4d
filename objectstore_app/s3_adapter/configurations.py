"""Configurations that no bucket here can have: reading one is answered as S3 answers for a bucket
without it, since clients ask as a matter of course (Terraform reads them all). Setting one is
refused by name, in routing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..protocol.errors import S3Error
from ..runtime.http import Response
from .access import owned_bucket
from .call import Call

_ANSWERS = {
    "GetBucketCors": "NoSuchCORSConfiguration",
    "GetBucketLifecycleConfiguration": "NoSuchLifecycleConfiguration",
    "GetBucketOwnershipControls": "OwnershipControlsNotFoundError",
    "GetBucketPolicy": "NoSuchBucketPolicy",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetBucketTagging": "NoSuchTagSet",
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfigurationNotFoundError",
    "GetPublicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
}


def _absent(code: str) -> Callable[[Call], Awaitable[Response]]:
    async def answer(call: Call) -> Response:
        bucket = await owned_bucket(call)
        raise S3Error(code, BucketName=bucket.name)

    return answer


ABSENT = {operation: _absent(code) for operation, code in _ANSWERS.items()}
"""Operation → what answers it. Raises: S3Error AccessDenied to anybody but the bucket's owner."""
