"""One cluster for all tests of this folder; each test has a namespace of its own.

`OBJECTSTORE_TEST_CEPH=FOLDER` names one that runs already (`python -m tests.ceph.cluster FOLDER`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from objectstore_app.config.ceph import CephPools, CephSettings
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.rados.objects import Objects
from tests.ceph.cluster import POOLS, CephCluster, missing
from tests.zookeeper.fixtures import ensemble, zookeeper

if not missing():
    from objectstore_app.media.rados.pool import Cluster, Pool
    from objectstore_app.media.rados.pools import StorePools, open_pools

__all__ = ["ensemble", "zookeeper"]


@pytest.fixture(scope="session")
def daemons() -> Iterator[CephCluster | None]:
    """A cluster of our own; None when one is named."""
    if said := missing():
        pytest.skip(f"no Ceph here: {said}")
    if "OBJECTSTORE_TEST_CEPH" in os.environ:
        yield None
        return
    # Not below pytest's folder: its path may be too long for the daemons' sockets.
    folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/var/tmp"))
    cluster = CephCluster(folder / "c")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ceph(daemons: CephCluster | None) -> Path:
    """The folder of a running cluster."""
    return daemons.folder if daemons else Path(os.environ["OBJECTSTORE_TEST_CEPH"])


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def place(ceph: Path, namespace: str) -> CephSettings:
    """Where a test's store lies."""
    return CephSettings(ceph / "ceph.conf", "client.store", CephPools(*POOLS), namespace)


@pytest.fixture
def pools(place: CephSettings) -> Iterator[StorePools]:
    cluster = Cluster(place.conf, place.client)
    yield open_pools(cluster, place, place.namespace)
    cluster.close()


@pytest.fixture
def pool(pools: StorePools) -> Pool:
    """The pool of logs."""
    return pools.log


@pytest.fixture(params=["memory", "rados"])
def objects(request: pytest.FixtureRequest) -> Objects:
    """What a log lies on: in memory everywhere, on a real cluster where Ceph is installed."""
    if request.param == "memory":
        return MemoryObjects()
    found: Objects = request.getfixturevalue("pool")
    return found
