"""Atlas' own passes over an engine of this process: the real ones, on the recorded disk."""

from __future__ import annotations

from contextlib import closing
from unittest import mock

from objectstore_app.atlas import work
from objectstore_app.atlas.pace import Pace
from objectstore_app.atlas.passes import run_passes
from objectstore_app.config.atlas import AtlasSettings
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.limits import CHUNK_NAMED_S_MAX
from objectstore_app.media.errors import MediaFailedError
from objectstore_app.media.opened import LocalMedia
from objectstore_app.media.store import Store
from objectstore_app.metadata_service.api import DataMutation, MutationResult
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.writer import now_ms

AT_ONCE = AtlasSettings(grace_s=0, bytes_per_s=0, base_log_bytes=0, upload_days=0.01)
LATER_MS = (CHUNK_NAMED_S_MAX + 2 * 3600) * 1000


class Pipe:
    """Stands for the socket to the shard's writer. A writer whose commit failed is dead."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.dead = False

    async def submit(self, mutation: DataMutation) -> MutationResult:
        if self.dead:
            raise UnavailableError("write", "writer", "it is dead")
        self.dead = True
        (outcome,) = self._shard.commit([mutation])
        self.dead = False
        if isinstance(outcome, ObjectStoreError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Nothing is open."""


async def run_pass(store: Store, shard: Shard, name: str) -> str:
    """Run one pass, as if all that was written before were old; what stopped it, if anything.

    No writer of chunks may have a segment open. Raises MediaFailedError when the writer died of it.
    """
    pipe = Pipe(shard)

    with (
        mock.patch.object(work, "MutationPipe", return_value=pipe),
        closing(LocalMedia(store)) as media,
    ):
        state = await run_passes(
            store,
            media,
            AT_ONCE,
            names=[name],
            pace=Pace(0),
            now_ms=lambda: now_ms() + LATER_MS,
        )
    if pipe.dead:
        raise MediaFailedError("atlas", name, state.passes[name].stopped_by)
    assert state.damage == [], state.damage
    return state.passes[name].stopped_by
