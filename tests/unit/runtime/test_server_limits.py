"""The HTTP server against slow, stalled, silent and too many clients; TLS beside plain HTTP."""

from __future__ import annotations

import datetime
import resource
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from objectstore_app.core.limits import CONNECTIONS_MAX, DESCRIPTORS_KEPT
from objectstore_app.runtime.errors import StartError
from objectstore_app.runtime.listeners import bind_listeners
from objectstore_app.runtime.server import REFUSE_RESERVE, connections_within_limit
from objectstore_app.runtime.tls import ServerTls, ensure_self_signed

from .toy import QUICK, Client, Toy, request, serving, until

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def toy():
    with serving(QUICK) as running:
        yield running


def test_silent_connection_is_closed(toy: Toy) -> None:
    with Client(toy.port) as client:
        assert client.ended()


def test_slow_head_is_timed_out_with_an_answer(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n")
        answer = client.answer()
        assert answer.status == 400
        assert b"<Code>RequestTimeout</Code>" in answer.body
        assert client.ended()


def test_head_that_trickles_does_not_extend_its_time(toy: Toy) -> None:
    started = time.monotonic()
    with Client(toy.port) as client:
        client.socket.settimeout(0.05)
        while True:  # the test's own time limit ends this if the server never does
            try:
                client.send(b"G")
                if client.socket.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - started < 5


def test_idle_keep_alive_connection_is_closed_quietly(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.get("/echo")
        assert client.ended()


def test_stalled_body_is_timed_out_with_an_answer(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Content-Length: 100") + b"w" * 10)
        answer = client.answer()
        assert b"<Code>RequestTimeout</Code>" in answer.body
        assert client.ended()


def test_slow_body_that_makes_progress_is_served(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Content-Length: 10"))
        for _ in range(10):
            time.sleep(0.1)
            client.send(b"w")
        assert client.answer().body == b"w" * 10


def test_reader_that_stops_reading_is_cut(toy: Toy) -> None:
    before = toy.closed_streams
    with Client(toy.port) as client:
        client.send(request("GET", "/stream/500000000"))
        until(lambda: toy.closed_streams > before)


def test_long_request_is_not_timed_out(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("GET", "/wait"))
        time.sleep(1.5)
        assert toy.gate is not None
        toy.call(toy.gate.set)
        assert client.answer().body == b"waited"


def test_one_connection_too_many_is_told_to_slow_down() -> None:
    with serving(replace(QUICK, connections_max=2, keep_alive_timeout_s=20)) as own:
        with Client(own.port) as first, Client(own.port) as second:
            assert first.get("/echo").status == 200
            assert second.get("/echo").status == 200
            with Client(own.port) as third:
                answer = third.get("/echo")
                assert answer.status == 503
                assert b"<Code>SlowDown</Code>" in answer.body
                assert third.ended()
            assert first.get("/echo").status == 200
        assert own.server is not None
        until(lambda: own.counters.connections == 0)
        with Client(own.port) as fourth:
            assert fourth.get("/echo").status == 200


def test_large_upload_to_a_slow_application_is_held_back() -> None:
    """The client cannot push more than the buffers while the application reads nothing."""
    with serving(replace(QUICK, body_buffer_high=65536, body_buffer_low=1024)) as own:
        with Client(own.port) as client:
            client.send(request("PUT", "/wait", "Content-Length: 1000000000"))
            until(lambda: own.waiting == 1)
            client.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.socket.sendall(b"w" * 100_000_000)
            assert own.counters.bytes_in < 4 * 65536 + 300_000
        assert own.gate is not None
        own.call(own.gate.set)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return ensure_self_signed(folder, address="127.0.0.1", domains=["s3.test"], now=NOW)


def test_plain_and_tls_share_a_port(certificate: tuple[Path, Path]) -> None:
    context = ServerTls(*certificate).context
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(QUICK, tls=context) as own:
        with Client(own.port) as plain, Client(own.port, trusting) as secure:
            for _ in range(2):
                assert plain.get("/echo").headers["x-secure"] == "False"
                assert secure.get("/echo").headers["x-secure"] == "True"
            body = b"w" * 2_000_000
            assert secure.put("/echo", body).body == body
            assert len(secure.get("/stream/3000000").body) == 3_000_000
        with Client(own.port) as broken:
            broken.send(b"\x16\x03\x01\x00\x05nonsense")
            with pytest.raises((EOFError, ConnectionError)):
                broken.answer()
        with Client(own.port) as half_hello:
            half_hello.send(b"\x16")
            assert half_hello.ended()
        with Client(own.port) as plain:
            assert plain.get("/echo").status == 200


def test_certificate_names_addresses_and_domains(tmp_path: Path) -> None:
    certificate, key = ensure_self_signed(
        tmp_path / "tls", address="::", domains=["s3.test"], now=NOW
    )
    decoded = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
    names = {value for _kind, value in decoded["subjectAltName"]}
    assert {"localhost", "s3.test", "*.s3.test", "127.0.0.1"} <= names
    assert key.stat().st_mode & 0o777 == 0o600


def test_certificate_is_kept_until_it_runs_out_or_names_change(tmp_path: Path) -> None:
    def made(domain: str, now: datetime.datetime) -> bytes:
        return ensure_self_signed(tmp_path, address="127.0.0.1", domains=[domain], now=now)[
            0
        ].read_bytes()

    first = made("a.test", NOW)
    assert made("a.test", NOW + datetime.timedelta(days=100)) == first
    renamed = made("b.test", NOW)
    assert renamed != first
    assert made("b.test", NOW + datetime.timedelta(days=800)) != renamed


def test_replaced_certificate_is_loaded_without_a_restart(tmp_path: Path) -> None:
    pair = ensure_self_signed(tmp_path, address="127.0.0.1", domains=["a.test"], now=NOW)
    tls = ServerTls(*pair)
    assert not tls.refresh()
    ensure_self_signed(tmp_path, address="127.0.0.1", domains=["b.test"], now=NOW)
    assert tls.refresh()
    pair[0].write_bytes(b"nonsense")
    with pytest.raises(StartError):
        tls.refresh()


def test_port_in_use_is_refused_by_name() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"127.0.0.1:{port}.*in use"):
            bind_listeners("127.0.0.1", port, 2)


def test_address_of_another_machine_is_refused_by_name() -> None:
    with pytest.raises(StartError, match=r"192.0.2.1:7200.*does not have that address"):
        bind_listeners("192.0.2.1", 7200, 1)


@pytest.mark.parametrize(
    ("soft", "wanted"),
    [
        (1024, 1024 - REFUSE_RESERVE - DESCRIPTORS_KEPT),
        (300, 1),
        (1_000_000, CONNECTIONS_MAX),
        (resource.RLIM_INFINITY, CONNECTIONS_MAX),
    ],
)
def test_connections_leave_descriptors_for_objects(
    monkeypatch: pytest.MonkeyPatch, soft: int, wanted: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections_within_limit() == wanted
