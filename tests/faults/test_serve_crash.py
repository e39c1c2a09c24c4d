"""kill -9 of a whole store under load, through S3: the acknowledged is there, nothing is torn.

One folder lives through all rounds. In each, several threads write, overwrite, copy, delete and
upload in parts until at a random moment the supervisor, the writer, a front end or all of them are
killed. Then everything is read back and the listings are compared with it. Now and then the store
is also killed while it starts, checked by `objectstore fsck` as the crash left it, or ended in good
order. The kernel keeps what a killed process wrote, so the folder is at times made to look as after
a power loss: without views, with half an append at the log's end.

`OBJECTSTORE_TEST_SEED` repeats a run's choices (threads keep their own time),
`OBJECTSTORE_CRASH_ROUNDS` sets its length.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from objectstore_app.metadata_service.record import MAGIC

from .client import Client, LostError, path
from .ledger import PLAIN, VERSIONED, Ledger, OwnBucket
from .load import Worker
from .store import Store, until
from .verify import verify

ROUNDS = int(os.environ.get("OBJECTSTORE_CRASH_ROUNDS", "30"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))
WORKERS = 6
WRITES_MAX = 1_000_000
LOAD_S_MAX = 0.6
AFTER_KILL_S_MAX = 0.4
START_KILLED_SHARE = 0.2
START_S_MAX = 1.2
FSCK_EVERY = 8
# The supervisor gives a store up whose child dies again and again; so soon it is ended first.
PARTIAL_KILLS_MAX = 3
TORN_BYTES_MAX = 100_000
BARRIER_WRITES = 4
BARRIER_TIMEOUT_S = 30.0

KINDS = ("group", "writer-0", "front-end-0", "front-end-1", "supervisor")
KIND_WEIGHTS = (3, 3, 1, 1, 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, transforms=True)
    yield made
    made.clean_up()


def make_buckets(port: int) -> None:
    client = Client(port)
    for bucket in (PLAIN, VERSIONED):
        assert client("PUT", f"/{bucket}").status == 200
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert client("PUT", f"/{VERSIONED}?versioning", enabled).status == 200
    client.close()


def load_and_kill(store: Store, ledgers: list[Ledger], kind: str, rng: random.Random) -> None:
    """Load until the random moment, kill; where the store lives on the load does for a while."""
    workers = [
        Worker(f"w{number}", ledger, Client(store.port), rng.randrange(1 << 30))
        for number, ledger in enumerate(ledgers)
    ]
    stop = threading.Event()
    load_s, after_s = rng.uniform(0.02, LOAD_S_MAX), rng.uniform(0, AFTER_KILL_S_MAX)
    with ThreadPoolExecutor(WORKERS) as threads:
        running = [threads.submit(worker.run, stop) for worker in workers]
        try:
            stop.wait(load_s)
            if kind == "group":
                store.kill_group()
            elif kind == "supervisor":
                store.kill_supervisor()
            else:
                store.kill_child(kind)
                stop.wait(after_s)
        finally:
            stop.set()
        for each in running:
            each.result()


def pass_barrier(port: int) -> None:
    """Return when writes are acknowledged again, and with that everything is decided that a killed
    front end had sent to the writer.
    """
    client = Client(port)

    def written() -> bool:
        try:
            return client("PUT", path("barrier", "key")).status == 200
        except LostError:
            return False

    for _ in range(BARRIER_WRITES):
        until(written, BARRIER_TIMEOUT_S, "a write is acknowledged")
    client.close()


def lose_power(store: Store, rng: random.Random) -> str:
    """Take from the folder what no flush had made durable; the store is down."""
    logs = sorted((store.data / "shard-000").glob("log-*.seg"))
    kind = rng.choice(("nothing", "views", "tail", "views and tail"))
    if "views" in kind:
        for view in store.data.glob("*/view.sqlite*"):
            view.unlink()
    if "tail" in kind:
        with logs[-1].open("r+b") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(0, end - rng.randrange(1, TORN_BYTES_MAX)))
            piece = log.read(rng.randrange(1, TORN_BYTES_MAX))  # looks like records, and is none
            log.seek(0, os.SEEK_END)
            log.write(piece.removeprefix(MAGIC))
    return kind


def start_again(store: Store, rng: random.Random) -> bool:
    """Start the store, sometimes killing it first while it starts; returns whether it was."""
    killed = rng.random() < START_KILLED_SHARE
    after_s = rng.uniform(0, START_S_MAX)
    if killed:
        store.launch()
        threading.Event().wait(after_s)
        store.kill_group()
    store.start()
    return killed


@pytest.mark.timeout(max(330, 10 * ROUNDS))
def test_kill_of_any_process_loses_nothing_acknowledged(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f" crash test of a store: seed {SEED}, {ROUNDS} rounds", end="", flush=True)
    rng = random.Random(SEED)
    ledgers = [Ledger(number * WRITES_MAX, OwnBucket(f"own-{number}")) for number in range(WORKERS)]
    kills: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    store.start()
    make_buckets(store.port)
    client = Client(store.port)
    assert client("PUT", "/barrier").status == 200
    client.close()
    partial_kills = 0
    for number in range(ROUNDS):
        kind = rng.choices(KINDS, KIND_WEIGHTS)[0]
        kills[kind] += 1
        load_and_kill(store, ledgers, kind, rng)
        if kind in ("group", "supervisor"):
            partial_kills = 0
            if number % FSCK_EVERY == 0:
                store.assert_sound()
            losses[lose_power(store, rng)] += 1
            kills["while starting"] += start_again(store, rng)
        else:
            partial_kills += 1
        pass_barrier(store.port)
        verify(partial(Client, store.port), ledgers, random.Random(rng.randrange(1 << 30)))
        if partial_kills >= PARTIAL_KILLS_MAX:
            partial_kills = 0
            store.stop()
            store.start()
    verify(partial(Client, store.port), ledgers)
    store.stop()
    store.assert_sound()
    acknowledged = sum(ledger.acknowledged for ledger in ledgers)
    lost = sum(ledger.lost for ledger in ledgers)
    with capsys.disabled():
        print(
            f"; {dict(kills)}, lost {dict(losses)}, {acknowledged} acknowledged, {lost} cut off",
            end=" ",
            flush=True,
        )
    assert acknowledged > 10 * ROUNDS, "the load hardly wrote anything"
    assert lost > ROUNDS, "the kills hardly cut anything off"
