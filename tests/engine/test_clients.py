"""The embedded client against a real writer: answers, exact caches, outages."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.media.store import Store, StoreInUseError
from objectstore_app.metadata_service import link, sockets
from objectstore_app.metadata_service.api import (
    CloseBucket,
    CreateBucket,
    MetadataClient,
    SetBucketAcl,
)
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.errors import (
    UnavailableError,
)
from objectstore_app.metadata_service.pipe import MutationPipe
from objectstore_app.metadata_service.wire import frame
from objectstore_app.metadata_service.writer import serve_writer
from tests.engine.client_story import a_buckets_life, a_persons_life, new_bucket, version
from tests.engine.processes import WriterProcess
from tests.engine.support import OWNER

Story = Callable[[MetadataClient], Awaitable[None]]


@pytest.fixture
def writer(store: Store) -> Iterator[WriterProcess]:
    process = WriterProcess(store)
    yield process
    process.kill()


@pytest.mark.parametrize("story", [a_buckets_life, a_persons_life])
@pytest.mark.usefixtures("writer")
def test_every_operation_is_answered(store: Store, story: Story) -> None:
    async def run() -> None:
        client = EmbeddedClient(store)
        await story(client)
        await client.close()

    asyncio.run(run())


@pytest.mark.usefixtures("writer")
def test_a_change_is_seen_by_every_other_client_at_once(store: Store) -> None:
    async def run() -> None:
        one, other = EmbeddedClient(store), EmbeddedClient(store)
        bucket = await new_bucket(one, "shared")
        for number in range(30):
            acl = ("private", "public-read")[number % 2]
            await one.mutate_directory(SetBucketAcl(id=bucket.id, acl=acl))
            for client in (one, other):
                seen = await client.bucket("shared")
                assert seen is not None
                assert seen.acl == acl
        await one.close()
        await other.close()

    asyncio.run(run())


def test_writes_in_flight_fail_and_later_ones_wait_when_the_writer_dies(store: Store) -> None:
    first = WriterProcess(store)
    read_end, write_end = os.pipe()
    # The second writer starts in a child when told to, since this process will have a loop by then.
    child = os.fork()
    if child == 0:
        os.read(read_end, 1)
        second = WriterProcess(store)
        os.read(read_end, 1)
        os._exit(second.stop())

    async def run() -> None:
        client = EmbeddedClient(store)
        bucket = await new_bucket(client, "b")
        os.kill(first.pid, signal.SIGSTOP)
        sent = asyncio.ensure_future(client.mutate(bucket, version(bucket, b"sent")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="unknown"):
            await sent
        # As a supervisor does: the next writer starts when the last one is gone altogether.
        await asyncio.to_thread(os.waitpid, first.pid, 0)
        os.write(write_end, b"1")
        await client.mutate(bucket, version(bucket, b"later", b"1"))
        assert await client.lookup(bucket, b"later") is not None
        await client.close()

    asyncio.run(run())
    os.write(write_end, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_writer_a_write_is_refused_in_bounded_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WriterProcess(store).stop() == 0
    monkeypatch.setattr(link, "RPC_RECONNECT_S_MAX", 0.2)

    async def run() -> None:
        client = EmbeddedClient(store)
        with pytest.raises(UnavailableError, match="no writer"):
            await client.mutate_directory(CreateBucket(name="b", owner=OWNER))
        await client.close()

    asyncio.run(run())


def test_a_writer_that_hangs_is_given_up_in_bounded_time_and_taken_back(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MutationPipe, "ANSWER_S_MAX", 0.3)
    monkeypatch.setattr(link, "RPC_RECONNECT_S_MAX", 0.3)
    monkeypatch.setattr(link, "WATCH_S", 0.05)

    async def run() -> None:
        client, late = EmbeddedClient(store), EmbeddedClient(store)
        bucket = await new_bucket(client, "b")
        os.kill(writer.pid, signal.SIGSTOP)
        with pytest.raises(UnavailableError, match="outcome is unknown"):
            await client.mutate(bucket, version(bucket, b"sent"))
        for one in (client, late):  # the socket takes the connection, nobody greets
            with pytest.raises(UnavailableError, match="does not answer"):
                await one.mutate(bucket, version(bucket, b"refused"))
        os.kill(writer.pid, signal.SIGCONT)
        for one in (client, late):
            await one.mutate(bucket, version(bucket, b"k", b"1"))
            assert await one.lookup(bucket, b"refused") is None
            await one.close()

    asyncio.run(run())


@pytest.mark.usefixtures("writer")
def test_second_writer_of_a_folder_is_refused(store: Store) -> None:
    async def run() -> None:
        with pytest.raises(StoreInUseError, match="in use by process"):
            await serve_writer(store, ready=lambda: None, stop=asyncio.Event())

    asyncio.run(run())


@pytest.mark.usefixtures("writer")
def test_garbage_on_the_writers_socket_ends_that_connection_only(store: Store) -> None:
    for garbage in (b"\xff" * 64, b"\x03\0\0\0abc", b"\x01\0\0\0\x00"):
        sock = sockets.connect(store.run, store.socket_name(DIRECTORY_SHARD))
        sock.setblocking(True)
        sock.sendall(garbage)
        sock.settimeout(5)
        greeting = frame([])
        assert sock.recv(len(greeting), socket.MSG_WAITALL) == greeting
        assert sock.recv(10) == b""
        sock.close()

    async def run() -> None:
        client = EmbeddedClient(store)
        await new_bucket(client, "still-served")
        await client.close()

    asyncio.run(run())


def test_bucket_left_between_its_halves_is_completed_at_the_next_start(store: Store) -> None:
    writer = WriterProcess(store)

    async def interrupt() -> None:
        client = EmbeddedClient(store)
        await client.mutate_directory(CreateBucket(name="half-made", owner=OWNER))
        doomed = await new_bucket(client, "half-deleted")
        await client.mutate(doomed, CloseBucket(bucket=doomed.id))
        await client.close()

    asyncio.run(interrupt())
    writer.kill()
    writer = WriterProcess(store)

    async def look() -> None:
        client = EmbeddedClient(store)
        assert await client.bucket("half-deleted") is None
        made = await client.bucket("half-made")
        assert made is not None
        await client.mutate(made, version(made, b"k"))
        await client.close()

    asyncio.run(look())
    assert writer.stop() == 0
