"""A store's media on RADOS, as one process has them open."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable

from ...config.ceph import CephSettings
from ...core.ids import ShardId
from ...core.limits import MIB, RADOS_SEGMENT_BYTES_MAX
from ..store import Store
from .chunks import RadosChunks
from .files import RadosFiles
from .head import HEAD_BYTES_MAX, decode_head, head_name
from .log import RadosLog, RadosLogReader, read_head
from .pool import Cluster
from .pools import open_pools
from .reader import RadosReader
from .segments import RadosSegments

# librados copies what it sends in one thread and lets go of it in another. With a heap for each
# thread the allocator would keep such pieces in the holes of all of them, so there is one. What is
# larger is a mapping of its own: it costs a fault for each page, and goes back at once.
_M_ARENA_MAX, _ARENAS = -8, 1
_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN = -3, 1 * MIB
_mallopt = ctypes.CDLL(None).mallopt


class RadosMedia:
    """Media (`opened.py`). What lies in the store's folder is only views."""

    def __init__(
        self, store: Store, ceph: CephSettings, *, segment_bytes_max: int = RADOS_SEGMENT_BYTES_MAX
    ) -> None:
        self._store = store
        self._segment_bytes_max = segment_bytes_max
        _mallopt(_M_ARENA_MAX, _ARENAS)
        _mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)
        self._cluster = Cluster(ceph.conf, ceph.client)
        self.pools = open_pools(self._cluster, ceph, ceph.namespace or store.info.store_id)
        self.reader = RadosReader(self.pools)

    def log(self, shard: ShardId) -> RadosLog:
        return RadosLog(
            self.pools.log,
            shard,
            owner=f"{socket.gethostname()} process {os.getpid()}",
            view_folder=self._store.shard(shard),
            segment_bytes_max=self._segment_bytes_max,
        )

    def log_source(self, shard: ShardId) -> RadosLogReader:
        return RadosLogReader(self.pools.log, shard)

    @property
    def segments(self) -> RadosSegments:
        return RadosSegments(self._cluster, self.pools)

    def owner_of(self, shard: ShardId) -> str:
        found = read_head(self.pools.log, shard)
        if found is None or found[0].released:
            return ""
        head, _ = found
        return f"{head.owner}, epoch {head.epoch}"

    async def confirm(self, shard: ShardId, epoch: int) -> bool:
        name = head_name(shard)
        content = await self.pools.log.read_async(name, 0, HEAD_BYTES_MAX)
        return content is not None and decode_head(content, name).epoch == epoch

    def chunks(self, now_ms: Callable[[], int], on_failed_flush: Callable[[], None]) -> RadosChunks:
        """A write that fails here leaves no doubt about others, so the process goes on."""
        return RadosChunks(self.pools.open, now_ms)

    def kept_files(self, shard: ShardId) -> RadosFiles:
        return RadosFiles(self.pools.log, shard)

    def close(self) -> None:
        self.pools.close()
        self._cluster.close()
