"""A whole store as pods, spoken to by S3 only, while pods are killed, paused and asked to end:
every acknowledged write is there, reads are of the last one, and clients wait a bounded time.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.media.segments import shard_folder
from tests.ceph.whole_store import WholeStore
from tests.faults.client import Client, LostError, path
from tests.faults.ledger import Ledger, OwnBucket
from tests.faults.load import Worker
from tests.faults.store import ACCESS_KEY, SECRET_KEY
from tests.faults.test_serve_crash import WRITES_MAX, make_buckets
from tests.faults.verify import verify
from tests.s3.server import Keys

pytestmark = pytest.mark.timeout(240)

WORKERS = 4
PAUSED_S = 8.0
# Goals of a quiet machine (a pod 2 s, a node 10 s), times what a busy one takes.
WAIT_S_MAX = 30.0


@pytest.fixture
def store(
    tmp_path: Path, ceph: Path, namespace: str, zookeeper: ZooKeeperSettings
) -> Iterator[WholeStore]:
    made = WholeStore(
        tmp_path, zookeeper, ceph, namespace, iam=2, front_ends=2,
        keys=Keys(ACCESS_KEY, SECRET_KEY),
    )  # fmt: skip
    try:
        made.start()
        yield made
    finally:
        made.stop()


def kill_owner(store: WholeStore) -> None:
    pod = store.owner(shard_folder(store.shards[1]))
    pod.kill()
    pod.start()


def kill_the_directorys_owner(store: WholeStore) -> None:
    pod = store.owner(shard_folder(store.shards[0]))
    pod.kill()
    pod.start()


def pause_owner(store: WholeStore) -> None:
    """Longer than its session lasts; it wakes up with requests in its sockets."""
    pod = store.owner(shard_folder(store.shards[1]))
    pod.send(signal.SIGSTOP)
    time.sleep(PAUSED_S)
    pod.send(signal.SIGCONT)


def end_owner(store: WholeStore) -> None:
    pod = store.owner(shard_folder(store.shards[1]))
    pod.terminate()
    assert pod.end() == 0
    pod.start()


@pytest.mark.parametrize(
    "stories",
    [(kill_owner, kill_the_directorys_owner), (pause_owner, end_owner)],
    ids=["killed", "paused-ended"],
)
def test_nothing_acknowledged_is_lost_while_pods_come_and_go(
    store: WholeStore, stories: tuple[Callable[[WholeStore], None], ...]
) -> None:
    make_buckets(store.ports[0])
    ledgers = [Ledger(number * WRITES_MAX, OwnBucket(f"own-{number}")) for number in range(WORKERS)]
    workers = [
        Worker(f"w{number}", ledger, Client(store.ports[number % 2]), seed=number)
        for number, ledger in enumerate(ledgers)
    ]
    stop = threading.Event()
    with ThreadPoolExecutor(WORKERS + 1) as threads:
        running = [threads.submit(worker.run, stop) for worker in workers]
        longest = threads.submit(longest_wait, store.ports[1], stop)
        try:
            for story in stories:
                stop.wait(2)
                story(store)
                stop.wait(6)
        finally:
            stop.set()
        for each in running:
            each.result()
    assert longest.result() < WAIT_S_MAX
    verify(partial(Client, store.ports[1]), ledgers, random.Random(1))


def longest_wait(port: int, stop: threading.Event) -> float:
    """Overwrite one object and read it back; the longest time between two writes that were
    acknowledged.
    """
    client = Client(port)
    assert client("PUT", "/probe").status == 200
    last, longest, number, acknowledged = time.monotonic(), 0.0, 0, -1
    while not stop.is_set():
        number += 1
        try:
            assert client("PUT", path("probe", "key"), b"%d" % number).status == 200
            acknowledged = number
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            assert int(client("GET", path("probe", "key")).body) == number
        except LostError:
            stop.wait(0.05)
    assert acknowledged > 0
    client.close()
    return longest
