"""A store's media on RADOS, as one process has them open."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ...config.ceph import CephSettings
from ...core.ids import ShardId
from ...core.limits import MIRROR_BYTES_MAX, RADOS_SEGMENT_BYTES_MAX
from ..api import Extent
from ..store import Store
from .chunks import RadosChunks
from .files import RadosFiles
from .head import HEAD_BYTES_MAX, decode_head, head_name
from .heap import Heap
from .log import RadosLog, RadosLogReader, read_head
from .mirror import LogMirror, MirrorReader
from .pool import Cluster
from .pools import open_pools
from .reader import RadosReader
from .segments import RadosSegments


class RadosMedia:
    """Media (`opened.py`). In the store's folder lie only views and mirrors of the logs."""

    def __init__(
        self, store: Store, ceph: CephSettings, *, segment_bytes_max: int = RADOS_SEGMENT_BYTES_MAX
    ) -> None:
        self._store = store
        self._segment_bytes_max = segment_bytes_max
        self._heap = Heap()
        self._cluster = Cluster(ceph.conf, ceph.client)
        self.pools = open_pools(self._cluster, ceph, ceph.namespace or store.info.store_id)
        self._mirrors: dict[ShardId, LogMirror] = {}
        self._mirror_reader = MirrorReader(store.path)
        self.reader = RadosReader(self.pools, self._heap, self._mirror_reader)

    def log(self, shard: ShardId) -> RadosLog:
        return RadosLog(
            self.pools.log,
            shard,
            owner=f"{socket.gethostname()} process {os.getpid()}",
            mirror=self._mirror(shard),
            segment_bytes_max=self._segment_bytes_max,
        )

    def log_source(self, shard: ShardId, *, standby: bool = False) -> RadosLogReader:
        mirror = self._mirror(shard) if standby else None
        return RadosLogReader(self.pools.log, shard, mirror)

    @property
    def segments(self) -> RadosSegments:
        return RadosSegments(self._cluster, self.pools)

    def mirrored(self, extent: Extent) -> bytes | None:
        return None if extent.blocks else self._mirror_reader.read(extent)

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
        return RadosChunks(self.pools.open, self._heap, now_ms)

    def kept_files(self, shard: ShardId) -> RadosFiles:
        return RadosFiles(self.pools.log, shard)

    def close(self) -> None:
        self._mirror_reader.close()
        for mirror in self._mirrors.values():
            mirror.close()
        self.pools.close()
        self._cluster.close()

    def _mirror(self, shard: ShardId) -> LogMirror:
        """The shard's, of which a standby and then the owner in this process have one."""
        if shard not in self._mirrors:
            bytes_max = MIRROR_BYTES_MAX // self._store.info.data_shards
            self._mirrors[shard] = LogMirror(self._store.path, shard, bytes_max=bytes_max)
        return self._mirrors[shard]
