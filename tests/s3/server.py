"""Where the suite's server comes from: a given endpoint, or `objectstore serve` in a temp folder.

`OBJECTSTORE_TEST_ENDPOINT`, `…_ACCESS_KEY`, `…_SECRET_KEY` (an administrator's) and, for
virtual-hosted buckets, `…_DOMAIN` point the suite at a deployment.
"""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from objectstore_app.config.ceph import ceph_settings
from objectstore_app.media.opened import open_media
from objectstore_app.media.store import open_store

START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Keys:
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Server:
    """`pid` is the supervisor's, 0 for a given endpoint."""

    endpoint: str
    root: Keys
    domain: str
    pid: int = 0

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    given = os.environ.get("OBJECTSTORE_TEST_ENDPOINT")
    if given:
        keys = Keys(
            os.environ["OBJECTSTORE_TEST_ACCESS_KEY"], os.environ["OBJECTSTORE_TEST_SECRET_KEY"]
        )
        yield Server(given.rstrip("/"), keys, os.environ.get("OBJECTSTORE_TEST_DOMAIN", ""))
        return
    with embedded_server(folder) as server:
        yield server


@contextmanager
def embedded_server(folder: Path, domain: str = "s3.example.test") -> Iterator[Server]:
    keys = Keys("ROOT" + secrets.token_hex(8).upper(), secrets.token_hex(20))
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "objectstore_app", "serve"),
                *("--data", str(folder / "data"), "--listen", f"127.0.0.1:{port}"),
                *("--domain", domain, "--workers", "2", "--atlas-interval", "0"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "OBJECTSTORE_ROOT_ACCESS_KEY": keys.access_key,
                "OBJECTSTORE_ROOT_SECRET_KEY": keys.secret_key,
            },
        )
    try:
        _wait_until_ready(port, process, log)
        yield Server(f"http://127.0.0.1:{port}", keys, domain, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def chunk_bytes(data: Path) -> int:
    """The room that large bodies take, where the store of this folder keeps them."""
    names = ("OBJECTSTORE_CEPH_CONF", "OBJECTSTORE_CEPH_CLIENT", "OBJECTSTORE_CEPH_POOL")
    conf, client, pools = (os.environ.get(name, "") for name in names)
    store = open_store(data, create=False)
    with closing(open_media(store, ceph_settings(conf, client, pools))) as media:
        return sum(media.segments.taken(number) or 0 for number in media.segments.chunks())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
