"""Operations on the service: ListBuckets."""

from __future__ import annotations

import base64
import binascii
import itertools

from ..protocol import xml_write
from ..protocol.errors import S3Error
from ..runtime.http import Response
from .call import Call, xml

PAGE_BUCKETS_MAX = 10_000


async def list_buckets(call: Call) -> Response:
    """The caller's own buckets, paged when asked for; never anyone else's."""
    user = call.user
    if user is None:
        raise S3Error("AccessDenied")
    query = call.location.query
    prefix = query.text("prefix")
    token = query.text("continuation-token")
    limit = query.integer("max-buckets", PAGE_BUCKETS_MAX, PAGE_BUCKETS_MAX, minimum=1)
    region = query.text("bucket-region")
    after = _name_of_token(token) if token else ""
    mine = (
        bucket
        for bucket in await call.services.metadata.buckets(user.id)
        if bucket.name > after
        and bucket.name.startswith(prefix or "")
        and (not region or bucket.region == region)
    )
    page = list(itertools.islice(mine, limit + 1))
    shown, more = page[:limit], len(page) > limit
    return xml(
        xml_write.list_buckets(
            xml_write.Owner(user.id, user.name),
            [xml_write.ListedBucket(one.name, one.created_ms, one.region) for one in shown],
            prefix=prefix,
            continuation_token=_token(shown[-1].name) if more else None,
        )
    )


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _name_of_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        ) from error
