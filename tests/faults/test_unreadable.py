"""A disk that cannot read, through S3: an error or a connection that is cut, never wrong bytes."""

from __future__ import annotations

import asyncio
import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from objectstore_app.core.limits import KIB, MIB
from objectstore_app.iam.keyring import Keyring
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.writer import now_ms
from objectstore_app.object_controller.people import ensure_first_administrator
from objectstore_app.runtime.listeners import bind_listeners
from objectstore_app.runtime.metrics import Counters
from objectstore_app.runtime.server import HttpServer
from objectstore_app.s3_adapter.app import application
from objectstore_app.s3_adapter.services import Services
from tests.engine.processes import WriterProcess
from tests.engine.unreadable import spoil

from .client import Client, LostError, path
from .store import ACCESS_KEY, SECRET_KEY

BUCKET = "disk"


@contextmanager
def front_end(store: Store) -> Iterator[int]:
    """A front end in a thread, so that its calls can be made to fail; its port."""
    listener = bind_listeners("127.0.0.1", 0, 1)[0]
    ready = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        client, reader = EmbeddedClient(store), LocalReader(store.path)
        chunks = LocalChunks(store.path, now_ms)
        services = Services(client, reader, chunks, Keyring(store.master_key()))
        await ensure_first_administrator(client, services.keyring, ACCESS_KEY, SECRET_KEY)
        server = HttpServer(application(services), counters=Counters("front-end"))
        server.listen(listener)
        ends.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        await server.drain(0, 5.0)
        await chunks.close()
        reader.close()
        await client.close()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield int(listener.getsockname()[1])
    finally:
        for loop, stop in ends:
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    store = open_store(tmp_path / "data")
    writer = WriterProcess(store)
    try:
        with front_end(store) as port:
            client = Client(port)
            assert client("PUT", f"/{BUCKET}").status == 200
            yield client
            client.close()
    finally:
        assert writer.stop() == 0


def received(client: Client, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body; 0 and what came of it when the connection was cut."""
    try:
        answer = client("GET", path(BUCKET, "hit"), b"", headers)
    except LostError as error:
        cut = error.__cause__
        return 0, cut.partial if isinstance(cut, http.client.IncompleteRead) else b""
    return answer.status, answer.body


@pytest.mark.parametrize(
    ("where", "size", "at"),
    [
        pytest.param("shard-000", 100 * KIB, 50 * KIB, id="record"),
        pytest.param("chunks", 200 * KIB, 10, id="chunk"),
        pytest.param("chunks", 3 * MIB, 3 * MIB - 5, id="end of a chunk"),
        pytest.param("chunks", 40 * MIB, 30 * MIB, id="later chunk"),
    ],
)
def test_what_cannot_be_read_is_an_error_or_a_cut_and_all_else_is_served(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, size: int, at: int
) -> None:
    body, other = random.Random(size).randbytes(size), random.Random(1).randbytes(size)
    for name, data in (("before", other), ("hit", body), ("after", other)):
        assert client("PUT", path(BUCKET, name), data).status == 200
    file, begin = place_of(tmp_path / "data" / where, body[at : at + 5])
    with monkeypatch.context() as patch:
        spoil(patch, file, begin, begin + 5)
        status, data = received(client, {})
        if status:
            assert (status, b"<Code>InternalError</Code>" in data) == (500, True)
        else:
            assert len(data) <= at
            assert data == body[: len(data)]
        status, data = received(client, {"Range": f"bytes={at}-{at + 4}"})
        assert status == 500
        if where == "chunks":
            # Blocks are verified one by one; a record is read as a whole.
            far = 0 if at > size // 2 else size - 1000
            status, data = received(client, {"Range": f"bytes={far}-{far + 999}"})
            assert (status, data == body[far : far + 1000]) == (206, True)
        assert client("HEAD", path(BUCKET, "hit")).status == 200
        copied = {"x-amz-copy-source": path(BUCKET, "hit")}
        assert client("PUT", path(BUCKET, "copy"), b"", copied).status == 500
        assert client("GET", path(BUCKET, "copy")).status == 404
        for name in ("before", "after"):
            assert client("GET", path(BUCKET, name)).body == other
    assert received(client, {}) == (200, body)


def place_of(folder: Path, piece: bytes) -> tuple[Path, int]:
    for file in sorted(folder.glob("*.seg")):
        found = file.read_bytes().find(piece)
        if found >= 0:
            return file, found
    raise AssertionError("the object's bytes are in no segment")
