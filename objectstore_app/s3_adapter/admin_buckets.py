"""The buckets' part of the admin API: what a bucket is set to and holds, its compression, and
what all buckets hold.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote

import msgspec

from ..metadata_service.api import Bucket
from ..protocol.dates import iso_extended
from ..runtime.http import Response
from .admin_answers import error_answer, not_allowed, not_found, view_answer
from .bodies import read_small_body
from .call import Call
from .encryption import COMPRESSION, compressed, default_of, set_bucket_setting

REQUEST_BYTES_MAX = 4096
USAGE_BUCKETS_MAX = 1000


class BucketView(msgspec.Struct, frozen=True, kw_only=True):
    """`compression` and `encryption` are what holds now, be it the bucket's or the store's default;
    sizes are those of the plain bytes.
    """

    name: str
    owner: str
    created: str
    region: str
    versioning: str
    compression: str
    encryption: str
    objects: int
    versions: int
    size_bytes: int
    uploads: int


class BucketChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`default` means what the store was started with."""

    compression: Literal["zstd", "none", "default"]


async def answer_buckets(call: Call, path: list[str]) -> Response:
    """`buckets/NAME`."""
    request = call.request
    if len(path) != 1:
        return not_found(request)
    name = unquote(path[0])
    bucket = await call.services.metadata.bucket(name)
    if bucket is None:
        return error_answer(request, 404, "NoSuchBucket", f"there is no bucket {name!r}")
    if request.method == "GET":
        request.note["operation"] = "AdminShowBucket"
    elif request.method == "PATCH":
        request.note["operation"] = "AdminSetBucket"
        body = await read_small_body(call, REQUEST_BYTES_MAX)
        try:
            asked = msgspec.json.decode(body, type=BucketChange).compression
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return error_answer(request, 400, "MalformedJSON", str(error))
        value = b"" if asked == "default" else asked.encode()
        await set_bucket_setting(call, bucket, COMPRESSION, value)
        bucket = await call.services.metadata.bucket(name) or bucket
    else:
        return not_allowed(request, "GET, PATCH")
    return view_answer(200, await _view(call, bucket))


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    owner: str
    objects: int
    versions: int
    size_bytes: int
    uploads: int


async def answer_usage(call: Call, path: list[str]) -> Response:
    """`usage`: what each bucket holds, by name, behind the query's `after`."""
    request = call.request
    if path:
        return not_found(request)
    if request.method != "GET":
        return not_allowed(request, "GET")
    request.note["operation"] = "AdminUsage"
    after = call.location.query.text("after") or ""
    found = await call.services.metadata.usage(after, USAGE_BUCKETS_MAX)
    return view_answer(
        200,
        [
            UsageView(
                name=one.name,
                owner=one.owner,
                objects=one.usage.objects,
                versions=one.usage.versions,
                size_bytes=one.usage.size_bytes,
                uploads=one.usage.uploads,
            )
            for one in found
        ],
    )


async def _view(call: Call, bucket: Bucket) -> BucketView:
    state = await call.services.metadata.state(bucket)
    default = default_of(call, bucket)
    usage = state.usage
    return BucketView(
        name=bucket.name,
        owner=bucket.owner,
        created=iso_extended(bucket.created_ms),
        region=bucket.region,
        versioning=state.versioning,
        compression="zstd" if compressed(call, bucket) else "none",
        encryption="none" if default is None else str(default.encryption),
        objects=usage.objects,
        versions=usage.versions,
        size_bytes=usage.size_bytes,
        uploads=usage.uploads,
    )
