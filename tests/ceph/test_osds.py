"""OSDs die and come back under a writer: it waits, nothing is lost, nothing is written twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.core.ids import ShardId
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.pool import Pool
from tests.ceph.cluster import CephCluster

SHARD = ShardId(3)
PAUSE_S = 2.0


class Appender(threading.Thread):
    """Appends numbered pieces until it is told to stop."""

    def __init__(self, log: RadosLog) -> None:
        super().__init__()
        self._log = log
        self._told = threading.Event()
        self.acknowledged = 0
        self.longest_s = 0.0

    def run(self) -> None:
        while not self._told.is_set():
            begun = time.monotonic()
            self._log.append([b"%07d\n" % self.acknowledged])
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.acknowledged += 1

    def stop(self) -> None:
        self._told.set()
        self.join(60)
        assert not self.is_alive(), "an append hangs"


@pytest.fixture
def whole(daemons: CephCluster | None) -> Iterator[CephCluster]:
    if daemons is None:
        pytest.skip("the cluster's daemons are not ours")
    yield daemons
    daemons.wait_clean()


def appended(pool: Pool) -> bytes:
    return b"".join(bytes(piece.data) for piece in RadosLogReader(pool, SHARD).scan(0, 0))


@pytest.mark.timeout(300)
def test_appends_outlive_one_osd_and_wait_for_two(
    whole: CephCluster, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    appender = Appender(RadosLog(pool, SHARD))
    appender.start()
    time.sleep(PAUSE_S)
    whole.kill("osd.1")
    whole.wait_down(1)
    before = appender.acknowledged
    time.sleep(PAUSE_S)
    assert appender.acknowledged > before, "one OSD is gone and nothing is written any more"
    alone_s = appender.longest_s
    whole.kill("osd.2")
    time.sleep(3 * PAUSE_S)
    during = appender.acknowledged
    time.sleep(PAUSE_S)
    stood_still = appender.acknowledged == during
    whole.start_osd(1)
    whole.start_osd(2)
    whole.wait_clean()
    time.sleep(PAUSE_S)
    appender.stop()
    assert stood_still, "written with one replica"
    assert appender.acknowledged > during, "it did not go on"
    wanted = b"".join(b"%07d\n" % number for number in range(appender.acknowledged))
    assert appended(pool) == wanted
    with capsys.disabled():
        print(
            f" {appender.acknowledged} appends, longest {alone_s:.1f} s with one OSD killed",
            end="",
        )
