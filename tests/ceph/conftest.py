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

from tests.ceph.cluster import POOL, CephCluster, missing

if not missing():
    from objectstore_app.media.rados.pool import Cluster, Place, Pool


@pytest.fixture(scope="session")
def ceph() -> Iterator[Path]:
    """The folder of a running cluster."""
    if said := missing():
        pytest.skip(f"no Ceph here: {said}")
    if running := os.environ.get("OBJECTSTORE_TEST_CEPH"):
        yield Path(running)
        return
    # Not below pytest's folder: its path may be too long for the daemons' sockets.
    folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/var/tmp"))
    cluster = CephCluster(folder / "c")
    try:
        cluster.start()
        yield cluster.folder
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture
def place(ceph: Path) -> Place:
    return Place(conf=ceph / "ceph.conf", client="client.store", pool=POOL)


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def pool(place: Place, namespace: str) -> Iterator[Pool]:
    cluster = Cluster(place)
    yield cluster.pool(namespace)
    cluster.close()
