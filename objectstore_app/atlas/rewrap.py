"""Wrapping data keys anew after a rotation, so that old versions of keys can be retired.

Only rows change: a data key is opened with the version that wrapped it and wrapped by the active
one; the body's bytes stay as they are. Each row is changed by compare-and-swap in its shard's
order, so a crash in the midst leaves every body with one envelope or the other, and both versions
are kept until nothing needs the old one. Parts of uploads keep theirs until they are completed.

Shards that use no old version cost one look at a small table. A body whose data key does not open
is reported as damage and left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..iam.errors import SealError
from ..iam.keyring import Keyring
from ..media.segments import DIRECTORY_SHARD
from ..metadata_service.api import Moved, RewrapVersion, StoreKey
from ..metadata_service.directory import all_store_keys
from ..metadata_service.errors import StoreKeyMissingError
from ..metadata_service.keys import BEGIN, Place, WrappedBody, key_use, wrapped_page
from ..object_controller.keychain import OpenKeys
from ..object_controller.transforms import body_context, rewraps
from ..runtime.logging import event
from .work import Work

PAGE_ROWS = 500


class _Directory:
    """KeyDirectory over the view at hand."""

    def __init__(self, work: Work) -> None:
        self._view = work.views[DIRECTORY_SHARD]

    async def store_keys(self) -> Sequence[StoreKey]:
        return all_store_keys(self._view)


async def rewrap(work: Work) -> None:
    """One pass over all shards."""
    directory = _Directory(work)
    keys = OpenKeys(directory, Keyring(work.store.master_key()))
    old = {version.id for key in await directory.store_keys() for version in key.versions[:-1]}
    changed = 0
    for shard in work.data_shards:
        view = work.views[shard]
        if old.isdisjoint(key_use(view)):
            continue
        place: Place | None = BEGIN
        while place is not None:
            page, place = wrapped_page(view, place, PAGE_ROWS)
            mutations = [
                mutation
                for one in page
                if any(run.key in old for run in one.body.coding)
                and (mutation := await _mutation(work, keys, one)) is not None
            ]
            results = await work.ask(shard, mutations) if mutations else []
            changed += sum(isinstance(result, Moved) and result.moved for result in results)
            await work.pace.rest()
    if changed:
        event("data_keys_rewrapped", bodies=changed)


async def _mutation(work: Work, keys: OpenKeys, one: WrappedBody) -> RewrapVersion | None:
    try:
        wraps = await rewraps(one.body, keys, body_context(one.bucket, one.key))
    except (SealError, StoreKeyMissingError) as error:
        work.report_damage(f"bucket {one.bucket} key {one.key!r} version {-one.order}", str(error))
        return None
    return RewrapVersion(bucket=one.bucket, key=one.key, order=one.order, wraps=wraps)
