"""Atlas as a pod of its own: it follows the logs of shards that other pods have, and asks those."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.atlas.fsck import check
from objectstore_app.atlas.state import State, load_state
from objectstore_app.config.ceph import CephAccess, CephSettings
from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.core.limits import MIB, RADOS_CHUNK_ALIGN_BYTES
from objectstore_app.media.rados.pool import Cluster
from objectstore_app.media.rados.pools import StorePools
from objectstore_app.media.rados.segments import RadosSegments
from objectstore_app.media.store import open_store
from tests.ceph.cluster import wait_until
from tests.ceph.pods import Pod
from tests.ceph.whole_store import WholeStore

pytestmark = pytest.mark.timeout(240)


def blocks_of(objects: int) -> int:
    """What objects of a MiB take where each is a chunk: with its table, and the segment's header,
    up to the next block of a disk.
    """
    return objects * MIB + (objects + 1) * RADOS_CHUNK_ALIGN_BYTES


@pytest.fixture
def store(
    tmp_path: Path, ceph: Path, namespace: str, zookeeper: ZooKeeperSettings
) -> Iterator[WholeStore]:
    made = WholeStore(tmp_path, zookeeper, ceph, namespace, atlas=1)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def state_of(pod: Pod) -> State:
    return load_state(open_store(pod.data, create=False))


def test_atlas_gives_back_what_clients_deleted_and_finds_all_well(
    store: WholeStore, place: CephSettings, pools: StorePools
) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=store.endpoints[0], region_name="us-east-1",
        aws_access_key_id=store.keys.access_key, aws_secret_access_key=store.keys.secret_key,
    )  # fmt: skip
    for name in ("one", "two", "three"):
        s3.create_bucket(Bucket=name)
        for number in range(4):
            s3.put_object(Bucket=name, Key=f"k{number}", Body=bytes([number]) * MIB)
        for number in range(1, 4):
            s3.delete_object(Bucket=name, Key=f"k{number}")
    (pod,) = store.atlas

    def taken() -> int:
        with closing(Cluster(place.conf, place.client)) as cluster:
            segments = RadosSegments(cluster, pools)
            return sum(segments.taken(number) or 0 for number in segments.chunks())

    wait_until(lambda: taken() <= blocks_of(3), f"room comes back: see {pod.log}", 90)
    with urllib.request.urlopen(
        f"http://127.0.0.1:{pod.health_port}/_health/ready", timeout=5
    ) as answer:
        assert answer.status == 200
    pod.kill()  # as a node does that is lost; its successor has nothing of its folder's state
    pod.start()
    s3.delete_object(Bucket="two", Key="k0")
    wait_until(lambda: taken() <= blocks_of(2), f"room comes back: see {pod.log}", 90)
    wait_until(lambda: state_of(pod).scrubs_completed > 0, "a scrub is done", 60)
    state = state_of(pod)
    assert state.damage == []
    assert {one.stopped_by for one in state.passes.values()} == {""}, state.passes
    for name in ("one", "three"):
        assert s3.get_object(Bucket=name, Key="k0")["Body"].read() == bytes(MIB)
    store.stop()
    report = check(pod.data, rebuild=True, ceph=CephAccess(place.conf, place.client))
    assert report.clean, report.findings
