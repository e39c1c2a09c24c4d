"""The gate's probe asks through every client address at once, and says of each what came of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.ansible.plugins import plugin

probe = plugin("modules", "s3_probe")

WAIT_S_MAX = 20.0


class Bucket(BaseHTTPRequestHandler):
    """Enough of S3 for the probe: what is put can be read back, at each address by itself."""

    objects: dict[str, bytes]
    spoiled: bool

    def do_PUT(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.objects[self.path] = self.rfile.read(length)
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(b"other" if self.spoiled else self.objects[self.path])

    def do_DELETE(self) -> None:
        del self.objects[self.path]
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stores() -> Iterator[tuple[int, dict[str, type[Bucket]]]]:
    """A port, and by address the store that listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    kinds = {
        f"127.0.0.{number}": type(f"Bucket{number}", (Bucket,), {"objects": {}, "spoiled": False})
        for number in (2, 3)
    }
    servers = [ThreadingHTTPServer((host, port), kind) for host, kind in kinds.items()]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield port, kinds
    for server in servers:
        server.shutdown()
        server.server_close()


def endpoints(port: int, *hosts: str) -> list:
    keys = {"access_key": "a", "secret_key": "s", "region": "us-east-1", "authority": ""}
    return [probe.Endpoint(host, {"port": port, **keys}) for host in hosts]


def test_each_address_has_a_row_in_its_order_and_nothing_stays_behind(stores):
    port, kinds = stores
    rows = probe.probed_all(endpoints(port, *kinds), 0)
    assert [row["host"] for row in rows] == list(kinds)
    assert all(row["seconds"] >= 0 for row in rows)
    assert all(kind.objects == {} for kind in kinds.values())


def test_one_that_refuses_or_gives_back_other_bytes_spoils_no_other_row(stores):
    port, kinds = stores
    kinds["127.0.0.3"].spoiled = True
    rows = probe.probed_all(endpoints(port, "127.0.0.2", "127.0.0.3", "127.0.0.4"), 0)
    assert ["failed" in row for row in rows] == [False, True, True]
    assert "other bytes" in rows[1]["msg"]
    assert "127.0.0.4" in rows[2]["msg"]
    assert "refused" in rows[2]["msg"]


def test_all_are_asked_at_the_same_time(stores, monkeypatch: pytest.MonkeyPatch):
    port, kinds = stores
    together = threading.Barrier(len(kinds), timeout=WAIT_S_MAX)
    monkeypatch.setattr(probe, "round_trip", lambda endpoint: together.wait())
    rows = probe.probed_all(endpoints(port, *kinds), 0)
    assert all("seconds" in row for row in rows)
