"""A pool that takes nothing more: a log there is refused, taken over, and goes on."""

from __future__ import annotations

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import KIB
from objectstore_app.media.errors import MediaFullError
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.pool import Cluster
from tests.ceph.cluster import CephCluster, wait_until

SHARD = ShardId(5)
PIECE = bytes(64 * KIB)
QUOTA_BYTES = 512 * KIB


@pytest.mark.timeout(180)
def test_log_of_a_full_pool_is_taken_over(daemons: CephCluster | None, namespace: str) -> None:
    """The monitors find out seconds later that a pool is over its quota, or no more."""
    if daemons is None:
        pytest.skip("the cluster's daemons are not ours")
    daemons.command(prefix="osd pool create", pool="small", pg_num=1, size=3)
    daemons.command(prefix="osd pool application enable", pool="small", app="objectstore")
    daemons.wait_clean()

    def limit(quota_bytes: int) -> None:
        daemons.command(
            prefix="osd pool set-quota", pool="small", field="max_bytes", val=str(quota_bytes)
        )

    limit(QUOTA_BYTES)
    cluster = Cluster(daemons.conf, "client.admin")
    try:
        pool = cluster.pool("small", namespace)
        appended: list[bytes] = []

        def takes(log: RadosLog) -> bool:
            try:
                log.append([PIECE])
            except MediaFullError:
                return False
            appended.append(PIECE)
            return True

        owner = RadosLog(pool, SHARD)
        wait_until(lambda: not takes(owner), "the pool is full")
        successor = RadosLog(pool, SHARD)
        piece = list(successor.scan(0, 0))[-1]
        successor.resume(piece.segment, piece.offset + len(piece.data), torn=False)
        assert not takes(successor)
        limit(0)
        wait_until(lambda: takes(successor), "there is room again")
        held = b"".join(bytes(piece.data) for piece in RadosLogReader(pool, SHARD).scan(0, 0))
        assert held == b"".join(appended)
    finally:
        cluster.close()
