"""The pools of one store, as one process has them open, and which segment lies in which.

Heads, logs and bases are in one, chunk segments where they are written in another (which may be the
same). A chunk segment that got old may have been moved to a third, an erasure-coded one: it is
found in the open pool until it is whole in the cold one, so whoever looks in that order finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...config.ceph import CephSettings
from ..segments import is_chunk
from .pool import Cluster, Pool


@dataclass(frozen=True, slots=True)
class StorePools:
    """`cold` is None where old chunks stay where they are."""

    log: Pool
    open: Pool
    cold: Pool | None = None

    def of(self, segment: int) -> Pool:
        """Where a segment is written."""
        return self.open if is_chunk(segment) else self.log

    def close(self) -> None:
        for pool in {id(one): one for one in (self.log, self.open, self.cold) if one}.values():
            pool.close()


def open_pools(cluster: Cluster, ceph: CephSettings, namespace: str) -> StorePools:
    """Raises MediaFailedError."""
    log = cluster.pool(ceph.pools.log, namespace)
    same = ceph.pools.open == ceph.pools.log
    return StorePools(
        log,
        log if same else cluster.pool(ceph.pools.open, namespace),
        cluster.pool(ceph.pools.cold, namespace) if ceph.pools.cold else None,
    )
