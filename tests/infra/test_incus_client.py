"""The REST client: operations, ETags, errors with Incus' own text, an absent daemon."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from objectstore_infra.errors import (
    ChangedMeanwhileError,
    ConflictError,
    NotFoundError,
    SubstrateError,
    SubstrateUnreachableError,
)
from objectstore_infra.substrates.incus_client import IncusClient

Reply = tuple[int, dict[str, Any], dict[str, str]]


class FakeIncus(socketserver.ThreadingUnixStreamServer):
    """Answers (method, path) with what the test put there, and notes what was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.replies: dict[tuple[str, str], Reply] = {}
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: FakeIncus

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        is_json = self.headers.get("Content-Type") == "application/json"
        seen = json.loads(body) if body and is_json else body
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, seen, headers))
        missing: Reply = (404, {"type": "error", "error": "not found", "error_code": 404}, {})
        status, document, extra = self.server.replies.get((self.command, self.path), missing)
        text = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**extra, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Keep the test's output clean."""


@pytest.fixture
def incus(tmp_path: Path) -> Iterator[FakeIncus]:
    with FakeIncus(tmp_path / "incus.socket") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(incus: FakeIncus) -> IncusClient:
    return IncusClient(str(incus.server_address))


def sync(metadata: Any) -> dict[str, Any]:
    return {"type": "sync", "status_code": 200, "metadata": metadata}


def error(code: int, text: str) -> Reply:
    return code, {"type": "error", "error": text, "error_code": code}, {}


def test_get_returns_the_document_and_its_etag(incus: FakeIncus, client: IncusClient) -> None:
    incus.replies["GET", "/1.0/networks/n?recursion=1"] = 200, sync({"name": "n"}), {"ETag": "e1"}
    answer = client.get("/networks/n", recursion="1")
    assert (answer.metadata, answer.etag) == ({"name": "n"}, "e1")


def test_an_update_is_guarded_by_the_etag(incus: FakeIncus, client: IncusClient) -> None:
    incus.replies["PUT", "/1.0/networks/n"] = error(412, "ETag doesn't match")
    with pytest.raises(ChangedMeanwhileError, match="ETag doesn't match"):
        client.put("/networks/n", {"config": {}}, etag="e1")
    _, _, body, headers = incus.asked[-1]
    assert body == {"config": {}}
    assert headers["if-match"] == "e1"


def test_an_operation_is_awaited(incus: FakeIncus, client: IncusClient) -> None:
    started = {"type": "async", "status_code": 100, "metadata": {"id": "op1"}}
    incus.replies["POST", "/1.0/instances"] = 202, started, {}
    ended = {"status_code": 200, "status": "Success", "metadata": {"x": 1}}
    incus.replies["GET", "/1.0/operations/op1/wait?timeout=300"] = 200, sync(ended), {}
    assert client.post("/instances", {"name": "a"}).metadata["metadata"] == {"x": 1}


def test_a_failed_operation_raises_its_own_text(incus: FakeIncus, client: IncusClient) -> None:
    started = {"type": "async", "status_code": 100, "metadata": {"id": "op1"}}
    incus.replies["POST", "/1.0/instances"] = 202, started, {}
    ended = {"status_code": 400, "status": "Failure", "err": "no space left on device"}
    incus.replies["GET", "/1.0/operations/op1/wait?timeout=300"] = 200, sync(ended), {}
    with pytest.raises(SubstrateError, match="POST /instances: no space left on device"):
        client.post("/instances", {"name": "a"})


def test_an_operation_that_does_not_end_is_reported(incus: FakeIncus, client: IncusClient) -> None:
    started = {"type": "async", "status_code": 100, "metadata": {"id": "op1"}}
    incus.replies["POST", "/1.0/instances"] = 202, started, {}
    running = {"status_code": 103, "status": "Running"}
    incus.replies["GET", "/1.0/operations/op1/wait?timeout=300"] = 200, sync(running), {}
    with pytest.raises(SubstrateError, match="has not ended after 300 s"):
        client.post("/instances", {"name": "a"})


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (404, "Instance not found", NotFoundError),
        (500, "Failed getting image: Image not found", NotFoundError),
        (409, "busy", ConflictError),
        (400, 'The network "n" already exists', ConflictError),
        (400, "Invalid config", SubstrateError),
    ],
)
def test_errors_have_a_kind_and_keep_their_text(
    incus: FakeIncus, client: IncusClient, code: int, text: str, kind: type[SubstrateError]
) -> None:
    incus.replies["DELETE", "/1.0/networks/n"] = error(code, text)
    with pytest.raises(SubstrateError) as caught:
        client.delete("/networks/n")
    assert type(caught.value) is kind
    assert text in str(caught.value)


def test_exists_tells_absence_from_failure(incus: FakeIncus, client: IncusClient) -> None:
    assert client.exists("/networks/n") is False
    incus.replies["GET", "/1.0/networks/n"] = 200, sync({}), {}
    assert client.exists("/networks/n") is True
    incus.replies["GET", "/1.0/networks/n"] = error(500, "database is locked")
    with pytest.raises(SubstrateError, match="database is locked"):
        client.exists("/networks/n")


def test_an_upload_is_streamed_with_its_headers(incus: FakeIncus, client: IncusClient) -> None:
    incus.replies["POST", "/1.0/instances/a/files?path=%2Fetc%2Fx"] = 200, sync(None), {}
    headers = {"X-Incus-mode": "0600", "Content-Length": "6"}
    client.upload("/instances/a/files", iter([b"abc", b"def"]), headers, {"path": "/etc/x"})
    _, _, body, seen = incus.asked[-1]
    assert body == b"abcdef"
    assert seen["x-incus-mode"] == "0600"


def test_an_absent_daemon_is_named_with_the_command_that_helps(tmp_path: Path) -> None:
    socket = tmp_path / "nothing.socket"
    with pytest.raises(SubstrateUnreachableError) as caught:
        IncusClient(str(socket)).get("")
    assert str(socket) in str(caught.value)
    assert "make host" in str(caught.value)
