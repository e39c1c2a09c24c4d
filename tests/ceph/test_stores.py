"""Two whole stores over the same logs: one serves, the other waits until it may.

Nobody decides yet which of two stores should serve, so one that is started takes the logs. What
must not happen is that the other one's supervisor takes them back, and so on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client

from objectstore_app.config.ceph import CephSettings
from objectstore_app.media.rados.log import read_head
from objectstore_app.media.rados.pool import Pool
from objectstore_app.media.store import Store, open_store
from tests.ceph.cluster import POOLS, wait_until
from tests.s3.conftest import make_client
from tests.s3.server import embedded_server


def twin_of(store: Store, folder: Path) -> None:
    """A folder of the same store, as on another pod or a new disk: its identity and key only."""
    (folder / "keys").mkdir(parents=True)
    for name in ("store.json", "keys/master.key"):
        shutil.copyfile(store.path / name, folder / name)


def refused(s3: S3Client) -> bool:
    """Whether a read is answered with 503."""
    try:
        s3.get_object(Bucket="bucket", Key="first")
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    return False


def epochs(pool: Pool, store: Store) -> list[int]:
    found = [read_head(pool, shard) for shard in store.shards]
    return [head[0].epoch for head in found if head is not None]


@pytest.mark.timeout(180)
def test_store_that_lost_its_logs_serves_nothing_and_waits_for_them(
    place: CephSettings, namespace: str, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBJECTSTORE_CEPH_CONF", str(place.conf))
    monkeypatch.setenv("OBJECTSTORE_CEPH_CLIENT", place.client)
    monkeypatch.setenv("OBJECTSTORE_CEPH_POOL", f"{','.join(POOLS)}/{namespace}")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    with embedded_server(one) as first:
        s3 = make_client(first, first.root)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="first", Body=b"1")
        store = open_store(one / "data", create=False)
        twin_of(store, two / "data")
        with embedded_server(two) as second:
            other = make_client(second, first.root)
            assert other.get_object(Bucket="bucket", Key="first")["Body"].read() == b"1"
            # Though nobody writes to it, the first one learns that it may not tell what it has.
            wait_until(lambda: refused(s3), "the first store refuses")
            taken = epochs(pool, store)
            log = one / "server.log"
            wait_until(lambda: "writer_waits" in log.read_text(), "its writer says why it waits")
            other.put_object(Bucket="bucket", Key="second", Body=b"2")
            assert refused(s3)
            assert epochs(pool, store) == taken, "it took the logs back"
        wait_until(lambda: not refused(s3), "the first store goes on")
        assert s3.get_object(Bucket="bucket", Key="second")["Body"].read() == b"2"
        assert epochs(pool, store) == [epoch + 1 for epoch in taken]
