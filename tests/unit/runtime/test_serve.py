"""`objectstore serve` as an operator runs it: start, refusals, first keys, crashes, the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from objectstore_app.protocol.sigv4_signer import presign

from .test_supervisor import alive
from .toy import Answer, Client, until

START_TIMEOUT_S = 60.0


class Store:
    """A running `objectstore serve` and what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> dict[str, list[int]]:
        """Process ids by name of child, oldest first."""
        found: dict[str, list[int]] = {}
        for name, pid in re.findall(r"child_started.* child=(\S+) child_pid=(\d+)", self.text()):
            found.setdefault(name, []).append(int(pid))
        return found

    def ready(self) -> bool:
        try:
            with Client(self.port) as client:
                return client.get("/_health/ready").status == 200
        except (OSError, EOFError):
            return False

    def put(self, path: str, body: bytes = b"") -> int:
        return self.send("PUT", path, body).status

    def send(self, method: str, path: str, body: bytes = b"") -> Answer:
        """A request signed by the first administrator."""
        host = f"127.0.0.1:{self.port}"
        target = presign(
            method,
            path,
            {"host": host},
            access_key="first",
            secret="first-secret",
            region="us-east-1",
            now=time.time(),
        )
        with Client(self.port) as client:
            length = f"Content-Length: {len(body)}"
            client.send(
                f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n".encode() + body
            )
            return client.answer()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "objectstore_app", *arguments]


def restarted(store: Store, name: str, times: int) -> bool:
    return len(store.children()[name]) > times


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "OBJECTSTORE" not in name}
    return {**kept, **extra}


ROOT_KEYS = {
    "OBJECTSTORE_ROOT_ACCESS_KEY": "first",
    "OBJECTSTORE_ROOT_SECRET_KEY": "first-secret",
}


@contextmanager
def serving(folder: Path, *options: str, keys: dict[str, str] | None = None) -> Iterator[Store]:
    """Run a store over `folder`/data and wait for it."""
    port = free_port()
    log = folder / f"serve-{port}.log"
    argv = command("serve", "--listen", f"127.0.0.1:{port}", "--data", str(folder / "data"))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*argv, *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(**(ROOT_KEYS if keys is None else keys)),
        )
    store = Store(process, port, log)
    try:
        until(lambda: process.poll() is not None or store.ready(), START_TIMEOUT_S)
        assert process.poll() is None, store.text()
        yield store
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def refused(*arguments: str, **extra: str) -> str:
    """What the command says as it refuses to start."""
    done = subprocess.run(
        command("serve", *arguments),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env=environment(**extra),
        check=False,
    )
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving(tmp_path_factory.mktemp("serve"), "--workers", "2") as running:
        yield running


def test_both_schemes_answer_and_metrics_name_the_processes(store: Store) -> None:
    with Client(store.port) as client:
        assert client.get("/").status == 403
        roles: list[str] = []
        until = time.monotonic() + START_TIMEOUT_S
        # The port answers as soon as one of the front ends does.
        while len(roles) < 4 and time.monotonic() < until:
            page = client.get("/_metrics").body.decode()
            roles = re.findall(r'objectstore_process_up\{role="([^"]+)",pid="\d+"\} 1', page)
    assert sorted(roles) == ["front-end", "front-end", "supervisor", "writer"]


def test_status_says_ready(store: Store) -> None:
    argv = command("status", "--endpoint", f"http://127.0.0.1:{store.port}", "--json")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert report["status"] == "ready"
    assert len(report["processes"]) == 4


def test_status_of_nothing_is_exit_2() -> None:
    argv = command("status", "--endpoint", f"http://127.0.0.1:{free_port()}")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not answer" in done.stderr


def test_killed_children_come_back_and_nothing_is_lost(store: Store) -> None:
    assert store.put("/kept") == 200
    assert store.put("/kept/object", b"payload") == 200
    for name in ("writer-0", "front-end-0", "front-end-1"):
        before = len(store.children()[name])
        os.kill(store.children()[name][-1], signal.SIGKILL)
        until(partial(restarted, store, name, before), START_TIMEOUT_S)
        until(store.ready, START_TIMEOUT_S)
    assert store.put("/kept/again", b"payload") == 200


def test_folder_in_use_is_refused(store: Store) -> None:
    said = refused("--data", str(store.log.parent / "data"), "--listen", "127.0.0.1:0")
    assert f"in use by process {store.process.pid}" in said


def test_port_in_use_is_refused(store: Store, tmp_path: Path) -> None:
    said = refused("--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{store.port}")
    assert "the port is in use" in said


def test_data_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in refused("--data", str(tmp_path / "file"))


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    assert "holds other files: letters.txt" in refused("--data", str(tmp_path))


def test_half_of_the_first_keys_is_refused(tmp_path: Path) -> None:
    said = refused("--data", str(tmp_path / "d"), OBJECTSTORE_ROOT_ACCESS_KEY="first")
    assert "OBJECTSTORE_ROOT_SECRET_KEY: not set" in said


def test_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('datas = "x"')
    assert "unknown setting 'datas'" in refused("--config", str(file))


def test_broken_certificate_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    said = refused("--data", str(tmp_path / "d"), "--tls-cert", str(bad), "--tls-key", str(bad))
    assert "load TLS certificate" in said


def test_made_keys_are_shown_once_and_the_end_is_orderly(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1", keys={}) as first:
        until(lambda: "data folder" in first.text())
        assert re.search(r"access key +\w{16,}", first.text())
        assert f"https://127.0.0.1:{first.port}" in first.text()
        pids = [pid for ids in first.children().values() for pid in ids]
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
        assert "all_answered=True" in first.text()
        assert not any(alive(pid) for pid in pids)
    with serving(tmp_path, "--workers", "1", keys={}) as second:
        until(lambda: "data folder" in second.text())
        assert "access key" not in second.text()
        pids = [pid for ids in second.children().values() for pid in ids]
        second.process.kill()
        until(lambda: not any(alive(pid) for pid in pids))
    done = subprocess.run(
        command("fsck", "--data", str(tmp_path / "data"), "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["clean"] is True


def test_encrypted_store_keeps_nothing_in_clear_and_its_key_is_replaced(tmp_path: Path) -> None:
    secret = b"never in clear on the disk; "
    bodies = {"/held/tiny": secret, "/held/small": secret * 1000, "/held/large": secret * 90_000}
    bodies["/held/noise"] = os.urandom(3_000_000)
    options = ("--workers", "1", "--encryption", "AES256", "--compression", "zstd")
    with serving(tmp_path, *options) as store:
        assert store.put("/held") == 200
        for _ in range(2):
            for path, body in bodies.items():
                assert store.put(path, body) == 200
                assert store.send("GET", path).body == body
            assert store.send("POST", "/_admin/v1/keys/default/rotate").status == 200
        versions = json.loads(store.send("GET", "/_admin/v1/keys").body)[0]["versions"]
        assert [one["data_keys"] for one in versions] == [0, len(bodies), 0]
        old = f"/_admin/v1/keys/default/versions/{versions[0]['id']}"
        assert store.send("DELETE", old).status == 200
        for path, body in bodies.items():
            assert store.send("GET", path).body == body
    held = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert all(secret not in content for content in held)


def test_settings_come_from_the_environment_and_a_file(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "serve.toml"
    file.write_text(f'data = "{tmp_path / "data"}"\nlisten = "127.0.0.1:1"\nworkers = 1\n')
    process = subprocess.Popen(
        command("serve"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(
            OBJECTSTORE_CONFIG=str(file), OBJECTSTORE_LISTEN=f"127.0.0.1:{port}", **ROOT_KEYS
        ),
    )
    try:
        store = Store(process, port, tmp_path / "none")
        until(store.ready, START_TIMEOUT_S)
        assert (tmp_path / "data" / "store.json").exists()
    finally:
        process.terminate()
        process.wait(20)
