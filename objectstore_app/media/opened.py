"""The media of a store as a process has them open: on its local directory, or on RADOS.

Open them after a fork; whoever opened them closes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..config.ceph import CephSettings
from ..core.ids import ShardId
from .api import ChunkWriter, Extent, ExtentReader, LogMedium, LogSource, Segments
from .chunks import LocalChunks, LocalReader
from .files_kept import KeptFiles
from .local import LocalLog, LocalLogReader
from .local_segments import LocalSegments
from .segments import DIRECTORY_SHARD
from .store import Store


class Media(Protocol):
    """All that lies behind a store's rows."""

    @property
    def reader(self) -> ExtentReader: ...

    def log(self, shard: ShardId) -> LogMedium:
        """A shard's log, for its only writer."""

    def log_source(self, shard: ShardId, *, standby: bool = False) -> LogSource:
        """A shard's log as it is read beside its writer; by its `standby` in this folder, what was
        read is kept at hand for readers.
        """

    @property
    def segments(self) -> Segments:
        """For who cleans up and verifies."""

    def mirrored(self, extent: Extent) -> bytes | None:
        """All bytes of an extent in a log, verified, when a copy on this machine has them, which is
        no reason to wait; None for a chunk.
        """

    def owner_of(self, shard: ShardId) -> str:
        """Which process has a shard's log, for people; empty when none has: it was released."""

    async def confirm(self, shard: ShardId, epoch: int) -> bool:
        """Whether a shard's log was still of this epoch when this was called: then no later owner
        had acknowledged anything. Raises MediaError when the medium cannot say.
        """

    def chunks(self, now_ms: Callable[[], int], on_failed_flush: Callable[[], None]) -> ChunkWriter:
        """For this process; belongs to the running loop."""

    def kept_files(self, shard: ShardId) -> KeptFiles | None:
        """Where bases are kept beside the folder, whose disk may be lost; None: nowhere."""

    def close(self) -> None: ...


class LocalMedia:
    """Everything lies in the store's folder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reader = LocalReader(store.path)

    def log(self, shard: ShardId) -> LogMedium:
        return LocalLog(self._store.shard(shard), shard, spare=shard != DIRECTORY_SHARD)

    def log_source(self, shard: ShardId, *, standby: bool = False) -> LogSource:
        return LocalLogReader(self._store.shard(shard), shard)

    @property
    def segments(self) -> LocalSegments:
        return LocalSegments(self._store)

    def mirrored(self, extent: Extent) -> None:
        """What lies on this machine needs no copy."""

    def owner_of(self, shard: ShardId) -> str:
        """The folder's lock says that."""
        return ""

    async def confirm(self, shard: ShardId, epoch: int) -> bool:
        """No other process can have the folder's logs."""
        return True

    def chunks(self, now_ms: Callable[[], int], on_failed_flush: Callable[[], None]) -> ChunkWriter:
        return LocalChunks(self._store.path, now_ms, on_failed_flush=on_failed_flush)

    def kept_files(self, shard: ShardId) -> None:
        """The folder is what there is."""

    def close(self) -> None:
        self.reader.close()


def open_media(store: Store, ceph: CephSettings | None) -> Media:
    """Raises MediaFailedError when Ceph cannot be reached."""
    if ceph is None:
        return LocalMedia(store)
    # Only here: the binding is there only where Ceph is installed.
    from .rados.media import RadosMedia

    return RadosMedia(store, ceph)
