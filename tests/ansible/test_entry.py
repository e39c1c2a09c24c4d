"""What Envoy, as the role configures it, does with front ends that wait, hang or end: its program
and theirs are the real ones (`entry.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.ansible.entry import Entry, running_entry, until

BUCKET, BODY = "entry", b"body" * 250
DEGRADED = ["failed_active_degraded_check"]


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    with running_entry(tmp_path_factory.mktemp("entry")) as running:
        client = running.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="read", Body=BODY)
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def getting(entry: Entry, **options: object) -> Callable[[], float]:
    client = entry.client(**options)

    def get() -> float:
        began = time.monotonic()
        assert client.get_object(Bucket=BUCKET, Key="read")["Body"].read() == BODY
        return time.monotonic() - began

    return get


def putting(entry: Entry, key: str, **options: object) -> Callable[[], float]:
    client = entry.client(**options)

    def put() -> float:
        began = time.monotonic()
        client.put_object(Bucket=BUCKET, Key=key, Body=BODY)
        return time.monotonic() - began

    return put


def test_requests_wait_and_do_not_fail_while_nobody_has_the_shards(
    entry: Entry, threads: ThreadPoolExecutor
) -> None:
    """Longer than a front end itself lets them wait, and at any time."""
    entry.nobody()
    healed = threading.Timer(13, entry.somebody)
    healed.start()
    calls: list[Future[float]] = []
    for number in range(5):
        calls += [threads.submit(getting(entry)), threads.submit(putting(entry, f"{number}"))]
        time.sleep(2)
    assert set(map(tuple, entry.flags().values())) == {tuple(DEGRADED)}
    assert all(call.result(40) < 20 for call in calls)
    until(lambda: not any(entry.flags().values()), "all are well again")


def test_front_end_that_is_cut_off_gets_nothing_while_others_serve(entry: Entry) -> None:
    entry.nobody(front_ends=(0,))
    parted_s = until(lambda: entry.flags()[entry.ports[0]] == DEGRADED, "it says so")
    assert parted_s < 6
    get = getting(entry)
    assert max(get() for _ in range(30)) < 2
    entry.somebody()
    until(lambda: not any(entry.flags().values()), "all are well again")
