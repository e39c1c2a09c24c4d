"""What Envoy, as the role configures it, does with front ends that wait, hang or end: its program
and theirs are the real ones (`entry.py`).
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from objectstore_app.core.limits import ROUTE_WAIT_S_MAX
from tests.ansible.entry import Entry, running_entry, status_of, until

BUCKET, BODY = "entry", b"body" * 250
# Envoy's verdict takes 3.5 s at most, what follows 2.
HUNG_S_MAX = 8.0
# Of a front end that finds no owner; it knows sooner that it is cut off.
WAIT_S_MAX = ROUTE_WAIT_S_MAX - 1
END_S = 8.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="ends connections, which needs root")
DEGRADED = ["failed_active_degraded_check"]


@pytest.fixture(scope="module")
def shared_entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    with running_entry(tmp_path_factory.mktemp("entry")) as running:
        client = running.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="read", Body=BODY)
        yield running


@pytest.fixture
def entry(shared_entry: Entry) -> Iterator[Entry]:
    yield shared_entry
    shared_entry.mend()


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
    assert status_of(entry.health_port, "/") == 200  # the addresses stay
    assert all(call.result(40) < 20 for call in calls)


@needs_root
def test_front_end_that_is_cut_off_gets_nothing_while_others_serve(
    entry: Entry, threads: ThreadPoolExecutor
) -> None:
    """And what it was sent before is repeated elsewhere, or ended."""
    once = {"retries": {"total_max_attempts": 1}}
    entry.lists(1, 2)
    until(lambda: entry.listed() == {0}, "Envoy sends there what comes now")
    entry.nobody(front_ends=(0,))
    read, write = (
        threads.submit(getting(entry, **once)),
        threads.submit(putting(entry, "c", **once)),
    )
    until(lambda: entry.requests(0) == 2, "both wait there", 3)
    entry.lists()
    parted_s = until(lambda: entry.flags()[entry.ports[0]] == DEGRADED, "it says so")
    assert parted_s < 6
    get = getting(entry)
    assert max(get() for _ in range(30)) < 2
    assert read.result(20) < WAIT_S_MAX
    with pytest.raises(ClientError, match="SlowDown"):
        write.result(0.5)


@needs_root
def test_what_was_sent_to_a_front_end_that_hangs_is_repeated_or_ended(
    entry: Entry, threads: ThreadPoolExecutor
) -> None:
    """Reads are answered by others, writes are at once told that their outcome is unknown."""
    once = {"retries": {"total_max_attempts": 1}}
    entry.lists(1, 2)
    until(lambda: entry.listed() == {0}, "Envoy sends there what comes now")
    entry.send("front-end-0", signal.SIGSTOP)
    reads = [threads.submit(getting(entry, **once)) for _ in range(4)]
    writes = [threads.submit(putting(entry, f"h{n}", **once)) for n in range(4)]
    until(lambda: entry.requests(0) == 8, "all wait there", 3)
    entry.lists()
    assert max(read.result(40) for read in reads) < HUNG_S_MAX
    began = time.monotonic()
    failures = [error for write in writes if (error := write.exception(40)) is not None]
    assert time.monotonic() - began < 2  # they had to wait no longer than the reads
    assert len(failures) == len(writes)
    for failure in failures:
        assert isinstance(failure, ClientError)
        assert failure.response["Error"]["Code"] == "SlowDown"
    get = getting(entry)
    assert max(get() for _ in range(20)) < 2


@needs_root
def test_front_end_that_ends_in_good_order_finishes_what_is_under_way(
    entry: Entry, threads: ThreadPoolExecutor
) -> None:
    """For longer than one that hangs would keep its connections."""
    large = bytes(range(256)) * (64 << 12)
    direct = entry.client(endpoint_url=f"http://127.0.0.1:{entry.ports[1]}")
    direct.put_object(Bucket=BUCKET, Key="large", Body=large)
    entry.lists(0, 2)  # so that what comes now goes to the one in between
    until(lambda: entry.listed() == {1}, "Envoy knows")
    began = time.monotonic()
    down = entry.client().get_object(Bucket=BUCKET, Key="large")["Body"]
    up = threads.submit(upload_slowly, entry, "slow", large[: 16 << 10], END_S)
    until(lambda: entry.requests(1) == 2, "both are under way", 6)
    entry.lists(1)
    entry.send("front-end-1", signal.SIGTERM)
    received = b""
    while left := len(large) - len(received):
        received += down.read(min(left, len(large) // 64))
        time.sleep(END_S / 64)
    assert received == large
    assert up.result(40) == 200
    assert time.monotonic() - began > END_S
    until(lambda: entry.ended("front-end-1"), "it ended")
    stored = entry.client().get_object(Bucket=BUCKET, Key="slow")["Body"].read()
    assert stored == large[: 16 << 10]


def upload_slowly(entry: Entry, key: str, body: bytes, within_s: float) -> int:
    """The status of a PUT whose body takes so long."""
    given = {"Bucket": BUCKET, "Key": key}
    client = entry.client(signature_version="s3v4")
    target = urlsplit(client.generate_presigned_url("put_object", Params=given))
    connection = http.client.HTTPConnection("127.0.0.1", entry.port, timeout=60)
    connection.putrequest("PUT", f"{target.path}?{target.query}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    step = len(body) // 32
    for start in range(0, len(body), step):
        connection.send(body[start : start + step])
        time.sleep(within_s / 32)
    status = connection.getresponse().status
    connection.close()
    return status
