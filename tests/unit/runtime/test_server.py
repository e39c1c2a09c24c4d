"""The HTTP server over real sockets: framing, keep-alive, errors, streaming, drain."""

from __future__ import annotations

import time

import pytest

from .toy import Client, Toy, request, serving, until


@pytest.fixture(scope="module")
def toy():
    with serving() as running:
        yield running


def test_answers_carry_request_id_date_and_server(toy: Toy) -> None:
    with Client(toy.port) as client:
        first, second = client.get("/nothing"), client.get("/nothing")
    assert first.status == 404
    assert first.headers["server"] == "objectstore"
    assert first.headers["date"].endswith("GMT")
    assert first.headers["x-amz-id-2"]
    assert len({first.headers["x-amz-request-id"], second.headers["x-amz-request-id"]}) == 2


def test_body_is_handed_over_whole(toy: Toy) -> None:
    with Client(toy.port) as client:
        for size in (0, 1, 4096, 70_000, 3_000_000):
            body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
            assert client.put("/echo", body).body == body


def test_chunked_body_is_handed_over_whole(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Transfer-Encoding: chunked"))
        client.send(b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")
        assert client.answer().body == b"hello world"
        assert client.get("/echo").status == 200


@pytest.mark.parametrize("path", ["/refuse", "/ignore", "/nothing", "/crash", "/echo"])
def test_connection_goes_on_after_any_answer(toy: Toy, path: str) -> None:
    with Client(toy.port) as client:
        for _ in range(3):
            client.put(path, b"q" * 10_000)
        assert client.put("/echo", b"still here").body == b"still here"


def test_headers_that_cannot_be_sent_are_a_500_and_the_connection_goes_on(toy: Toy) -> None:
    faults = toy.counters.application_faults
    with Client(toy.port) as client:
        assert client.get("/bad-header").status == 500
        assert client.put("/echo", b"on").body == b"on"
    assert toy.counters.application_faults == faults + 1


def test_unread_body_in_slow_pieces_is_thrown_away(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/refuse", "Content-Length: 100000"))
        assert client.answer().status == 403
        for _ in range(10):
            client.send(b"w" * 10_000)
        assert client.get("/echo").status == 200


def test_long_unread_body_closes_but_the_answer_arrives(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/refuse", "Content-Length: 100000000") + b"w" * 200_000)
        answer = client.answer()
        assert answer.status == 403
        assert answer.headers["connection"] == "close"
        assert client.ended()


def test_crash_is_an_internal_error_with_request_id(toy: Toy) -> None:
    before = toy.counters.application_faults
    with Client(toy.port) as client:
        answer = client.get("/crash")
    assert answer.status == 500
    assert b"<Code>InternalError</Code>" in answer.body
    assert answer.headers["x-amz-request-id"].encode() in answer.body
    assert toy.counters.application_faults == before + 1


def test_pipelined_requests_are_answered_in_order(toy: Toy) -> None:
    with Client(toy.port) as client:
        bodies = [b"one", b"", b"three" * 5000, b"four"]
        client.send(
            b"".join(
                request("PUT", "/echo", f"Content-Length: {len(body)}") + body for body in bodies
            )
        )
        assert [client.answer().body for _ in bodies] == bodies


def test_flood_of_pipelined_requests_is_bounded_and_answered(toy: Toy) -> None:
    with Client(toy.port) as client:
        for _ in range(20):
            client.send(request("GET", "/echo") * 500)
            assert {client.answer().status for _ in range(500)} == {200}


def test_half_closed_client_gets_all_its_answers(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("GET", "/echo") + request("GET", "/nothing"))
        client.socket.shutdown(1)
        assert [client.answer().status, client.answer().status] == [200, 404]
        assert client.ended()


def test_continue_is_sent_when_the_body_is_read(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Content-Length: 5", "Expect: 100-continue"))
        assert client.answer().status == 100
        client.send(b"hello")
        assert client.answer().body == b"hello"
        assert client.get("/echo").status == 200


def test_no_continue_when_the_body_came_along(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Content-Length: 5", "Expect: 100-continue") + b"hello")
        assert client.answer().status == 200


def test_refused_expectation_closes_without_continue(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/refuse", "Content-Length: 5", "Expect: 100-continue"))
        answer = client.answer()
        assert answer.status == 403
        assert answer.headers["connection"] == "close"
        assert client.ended()


def test_head_has_length_and_no_body(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("HEAD", "/stream/1000"))
        assert client.answer(head_only=True).headers["content-length"] == "1000"
        client.send(request("HEAD", "/refuse"))
        assert client.answer(head_only=True).status == 403
        assert client.get("/stream/10").body == b"x" * 10


def test_streams_by_length_and_chunked(toy: Toy) -> None:
    with Client(toy.port) as client:
        assert len(client.get("/stream/5000000").body) == 5_000_000
        assert len(client.get("/stream/300000?chunked").body) == 300_000
        assert client.get("/stream/0").body == b""


def test_http_1_0_stream_ends_with_the_connection(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(b"GET /stream/100000?chunked HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert "transfer-encoding" not in answer.headers
        body = client.buffer
        while data := client.socket.recv(65536):
            body += data
        assert len(body) == 100_000


@pytest.mark.parametrize("path", ["/short", "/break"])
def test_stream_that_fails_cuts_the_connection(toy: Toy, path: str) -> None:
    with Client(toy.port) as client, pytest.raises((EOFError, ConnectionError)):
        client.get(path)


def test_client_that_leaves_ends_the_stream(toy: Toy) -> None:
    before = toy.closed_streams
    with Client(toy.port) as client:
        client.send(request("GET", "/stream/500000000"))
        client.socket.recv(1000)
    until(lambda: toy.closed_streams > before)


def test_truncated_upload_is_incomplete_body(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(request("PUT", "/echo", "Content-Length: 1000") + b"w" * 500)
        client.socket.shutdown(1)
        answer = client.answer()
        assert answer.status == 400
        assert b"<Code>IncompleteBody</Code>" in answer.body


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_gets_an_error_and_the_end(toy: Toy, garbage: bytes) -> None:
    with Client(toy.port) as client:
        client.send(garbage)
        answer = client.answer()
        assert 400 <= answer.status < 600
        assert answer.status != 500
        assert b"<Error><Code>" in answer.body
        assert client.ended()


def test_header_of_a_mebibyte_is_refused(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * (1 << 20) + b"\r\n\r\n")
        answer = client.answer()
        assert answer.status == 400
        assert b"RequestHeaderSectionTooLarge" in answer.body
        assert client.ended()


def test_request_is_counted_by_operation_and_status(toy: Toy) -> None:
    with Client(toy.port) as client:
        client.get("/refuse")
    until(lambda: toy.counters.operations["Toy"].statuses.get(403, 0) > 0)


def test_drain_finishes_what_is_under_way_and_closes_idle_connections() -> None:
    with serving() as own, Client(own.port) as idle, Client(own.port) as busy:
        assert idle.get("/echo").status == 200
        busy.send(request("GET", "/wait"))
        until(lambda: own.waiting == 1)
        assert own.loop is not None
        assert own.gate is not None
        own.loop.call_soon_threadsafe(own.loop.call_later, 0.2, own.gate.set)
        assert own.drain()
        answer = busy.answer()
        assert answer.body == b"waited"
        assert answer.headers["connection"] == "close"
        assert idle.ended()
        with pytest.raises(ConnectionRefusedError):
            Client(own.port)


def test_drain_cuts_what_takes_too_long() -> None:
    with serving() as own, Client(own.port) as busy:
        busy.send(request("GET", "/wait"))
        until(lambda: own.waiting == 1)
        started = time.monotonic()
        assert not own.drain(timeout_s=0.2)
        assert time.monotonic() - started < 2
        assert busy.ended()
