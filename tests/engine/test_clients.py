"""The embedded and the remote client against a real writer: answers, exact caches, outages."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from objectstore_app.core.limits import CHUNK_BYTES_MAX
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.media.store import Store, StoreInUseError
from objectstore_app.metadata_service import link, sockets
from objectstore_app.metadata_service.api import (
    AccessKey,
    AddUser,
    Bucket,
    CloseBucket,
    CreateBucket,
    CreateUpload,
    Deleted,
    DeleteKey,
    MetadataClient,
    OpenBucket,
    RemoveBucket,
    RemoveUser,
    SetBucketAcl,
    Upload,
    WriteCondition,
)
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.cluster import ClusterTlsError, cluster_context
from objectstore_app.metadata_service.errors import (
    BucketExistsError,
    BucketMissingError,
    BucketNotEmptyError,
    ConditionFailedError,
    KeyMissingError,
    RecordTooLargeError,
    UnavailableError,
    UserExistsError,
)
from objectstore_app.metadata_service.gateway import GatewayService, serve_gateway
from objectstore_app.metadata_service.pipe import MutationPipe
from objectstore_app.metadata_service.remote import RemoteStore
from objectstore_app.metadata_service.wire import frame
from objectstore_app.metadata_service.writer import now_ms, serve_writer
from tests.engine.authorities import context
from tests.engine.processes import WriterProcess
from tests.engine.support import OWNER, put

Scenario = Callable[[MetadataClient], Awaitable[None]]


def replace_bucket(mutation, bucket: Bucket):
    return msgspec.structs.replace(mutation, bucket=bucket.id)


async def new_bucket(client: MetadataClient, name: str) -> Bucket:
    bucket = await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
    assert isinstance(bucket, Bucket)
    await client.mutate(bucket, OpenBucket(bucket=bucket.id))
    return bucket


@pytest.fixture
def writer(store: Store) -> Iterator[WriterProcess]:
    process = WriterProcess(store)
    yield process
    process.kill()


class Gateway:
    """A gateway in this loop, on one port, that can be stopped and started again."""

    def __init__(self, store: Store, tls: Path) -> None:
        self._store = store
        self._tls = tls
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    async def __aenter__(self) -> Gateway:
        self._client = EmbeddedClient(self._store)
        self._reader = LocalReader(self._store.path)
        self._chunks = LocalChunks(self._store.path, now_ms)
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        if self.sock.fileno() < 0:
            self.sock = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        service = GatewayService(self._client, self._reader, self._chunks)
        self._task = asyncio.ensure_future(
            serve_gateway(
                service,
                self.sock,
                context(self._tls, server=True),
                ready=ready.set,
                stop=self._stop,
            )
        )
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task
        await self._client.close()
        await self._chunks.close()
        self._reader.close()
        self.sock.close()


async def each_client(store: Store, tls: Path, scenario: Scenario) -> None:
    client = EmbeddedClient(store)
    await scenario(client)
    await client.close()
    async with Gateway(store, tls) as gateway:
        far = RemoteStore("127.0.0.1", gateway.port, context(tls, server=False))
        await scenario(far.client)
        await far.close()


@pytest.mark.usefixtures("writer")
def test_every_operation_answers_alike_here_and_remotely(store: Store, tls: Path) -> None:
    names = iter(("first", "second"))

    async def scenario(client: MetadataClient) -> None:
        name = next(names)
        assert await client.bucket(name) is None
        bucket = await new_bucket(client, name)
        assert await client.bucket(name) == bucket
        with pytest.raises(BucketExistsError) as refusal:
            await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
        assert (refusal.value.subject, refusal.value.hint) == (name, OWNER)
        for key in (b"a/1", b"a/2", b"b"):
            await client.mutate(bucket, replace_bucket(put(key, b"body " + key), bucket))
        found = await client.lookup(bucket, b"b")
        assert found is not None
        assert found.body.inline == b"body b"
        page = await client.list_objects(bucket, delimiter=b"/", limit=1)
        assert (page.prefixes, page.truncated, page.next_after) == ([b"a/"], True, b"a/")
        versions = await client.list_versions(bucket, prefix=b"a/")
        assert [row[0] for row in versions.versions] == [b"a/1", b"a/2"]
        upload = await client.mutate(bucket, CreateUpload(bucket=bucket.id, key=b"u", owner=OWNER))
        assert isinstance(upload, Upload)
        assert await client.upload(bucket, b"u", upload.upload_id) == upload
        assert (await client.list_uploads(bucket)).entries == (upload,)
        assert list(await client.parts(bucket, upload.upload_id)) == []
        usage = (await client.state(bucket)).usage
        assert (usage.objects, usage.size_bytes, usage.uploads) == (3, 22, 1)
        assert bucket in await client.buckets(OWNER)
        with pytest.raises(BucketNotEmptyError):
            await client.mutate(bucket, CloseBucket(bucket=bucket.id))
        deletes = [
            DeleteKey(bucket=bucket.id, key=key, owner=OWNER, condition=condition)
            for key in (b"a/1", b"a/2", b"b", b"b")
            for condition in (WriteCondition(if_match="other"), WriteCondition())
        ]
        outcomes = await client.mutate_all(bucket, deletes)
        kinds = [type(one) for one in outcomes]
        assert kinds == [ConditionFailedError, Deleted] * 3 + [KeyMissingError, Deleted]
        assert await client.mutate_all(bucket, []) == []
        await client.mutate(bucket, CloseBucket(bucket=bucket.id))
        with pytest.raises(BucketMissingError):
            await client.mutate(bucket, replace_bucket(put(b"late"), bucket))
        await client.mutate_directory(RemoveBucket(id=bucket.id))
        assert await client.bucket(name) is None

    asyncio.run(each_client(store, tls, scenario))


@pytest.mark.usefixtures("writer")
def test_people_and_their_keys(store: Store, tls: Path) -> None:
    async def scenario(client: MetadataClient) -> None:
        key = AccessKey(access_key="AK", sealed_secret=b"s", created_ms=1)
        add = AddUser(id=OWNER, email="a@b.example", name="A", keys=(key,))
        assert await client.user_of_key("AK") is None
        await client.mutate_directory(add)
        found = await client.user_of_key("AK")
        assert found is not None
        assert found[0].id == OWNER
        with pytest.raises(UserExistsError):
            await client.mutate_directory(add)
        assert [user.email for user in await client.users()] == ["a@b.example"]
        await client.mutate_directory(RemoveUser(id=OWNER))
        assert await client.user_of_key("AK") is None

    asyncio.run(each_client(store, tls, scenario))


@pytest.mark.usefixtures("writer")
def test_a_change_is_seen_by_every_other_client_at_once(store: Store, tls: Path) -> None:
    async def run() -> None:
        one, other = EmbeddedClient(store), EmbeddedClient(store)
        async with Gateway(store, tls) as gateway:
            far = RemoteStore("127.0.0.1", gateway.port, context(tls, server=False))
            bucket = await new_bucket(one, "shared")
            for number in range(30):
                acl = ("private", "public-read")[number % 2]
                await one.mutate_directory(SetBucketAcl(id=bucket.id, acl=acl))
                for client in (one, other, far.client):
                    seen = await asyncio.gather(*(client.bucket("shared") for _ in range(3)))
                    assert {held.acl for held in seen if held} == {acl}
            await far.close()
        await one.close()
        await other.close()

    asyncio.run(run())


@pytest.mark.usefixtures("writer")
def test_chunks_go_through_the_gateway_and_back(store: Store, tls: Path) -> None:
    async def run() -> None:
        async with Gateway(store, tls) as gateway:
            far = RemoteStore("127.0.0.1", gateway.port, context(tls, server=False))
            data = os.urandom(far.chunks.chunk_bytes_max)
            extent = await far.chunks.write(memoryview(data))
            await far.chunks.flush()
            assert await far.reader.read(extent, 0, len(data)) == data
            assert await far.reader.read(extent, 1000, 5) == data[1000:1005]
            with pytest.raises(RecordTooLargeError):
                await far.chunks.write(bytes(CHUNK_BYTES_MAX + 1))
            await far.close()

    asyncio.run(run())


def test_nodes_of_another_authority_are_refused(
    store: Store, tls: Path, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RPC_RECONNECT_S_MAX", 0.5)

    async def run() -> None:
        async with Gateway(store, tls) as gateway:
            stranger = RemoteStore(
                "127.0.0.1", gateway.port, context(tls, server=False, node="stranger")
            )
            with pytest.raises(UnavailableError):
                await stranger.client.users()
            await stranger.close()

    asyncio.run(run())
    with pytest.raises(ClusterTlsError):
        cluster_context(tls / "absent.pem", tls / "node.pem", tls / "node.key", server=True)


@pytest.mark.usefixtures("writer")
def test_remote_requests_wait_for_a_gateway_that_restarts(store: Store, tls: Path) -> None:
    async def run() -> None:
        gateway = Gateway(store, tls)
        far = RemoteStore("127.0.0.1", gateway.port, context(tls, server=False))
        async with gateway:
            bucket = await new_bucket(far.client, "b")
        while far.connection.connected:  # noqa: ASYNC110 - losing it wakes nobody
            await asyncio.sleep(0.001)
        waiting = asyncio.gather(
            far.client.mutate(bucket, replace_bucket(put(b"k", b"v"), bucket)),
            far.client.state(bucket),
        )
        async with gateway:
            await waiting
            assert await far.client.lookup(bucket, b"k") is not None
            await far.close()

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
        sent = asyncio.ensure_future(client.mutate(bucket, replace_bucket(put(b"sent"), bucket)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="unknown"):
            await sent
        # As a supervisor does: the next writer starts when the last one is gone altogether.
        await asyncio.to_thread(os.waitpid, first.pid, 0)
        os.write(write_end, b"1")
        await client.mutate(bucket, replace_bucket(put(b"later", b"1"), bucket))
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
            await client.mutate(bucket, replace_bucket(put(b"sent"), bucket))
        for one in (client, late):  # the socket takes the connection, nobody greets
            with pytest.raises(UnavailableError, match="does not answer"):
                await one.mutate(bucket, replace_bucket(put(b"refused"), bucket))
        os.kill(writer.pid, signal.SIGCONT)
        for one in (client, late):
            await one.mutate(bucket, replace_bucket(put(b"k", b"1"), bucket))
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
        await client.mutate(made, replace_bucket(put(b"k"), made))
        await client.close()

    asyncio.run(look())
    assert writer.stop() == 0
