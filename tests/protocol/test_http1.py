"""The request reader and the response heads."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.core.errors import InvariantError
from objectstore_app.core.limits import HEADER_BYTES_MAX, HEADER_COUNT_MAX
from objectstore_app.protocol.http1 import (
    Data,
    End,
    Event,
    Head,
    HttpError,
    RequestReader,
    ResponseHeads,
    chunk_head,
)
from tests.protocol.feeding import ways

GET = b"GET /bucket/key HTTP/1.1\r\nHost: h:7200\r\nX-Amz-Date:  a b \r\n\r\n"
PUT = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name="v"\r\nhello\r\n00a\r\n, world!!!\r\n0\r\nX-Trailer: y\r\n\r\n'
)


def read(pieces: list[bytes], reader: RequestReader | None = None) -> list[Event]:
    reader = reader or RequestReader()
    return [event for piece in pieces for event in reader.feed(piece)]


def body_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


def refused(data: bytes) -> HttpError:
    codes = set()
    error = None
    for pieces in ways(data):
        with pytest.raises(HttpError) as caught:
            read(pieces)
        error = caught.value
        codes.add(error.code)
    assert len(codes) == 1, f"the error depends on how the bytes arrive: {codes}"
    assert error is not None
    return error


def test_head_is_read_the_same_however_it_arrives() -> None:
    for pieces in ways(GET):
        head, end = read(pieces)
        assert isinstance(end, End)
        assert head == Head(
            "GET",
            b"/bucket/key",
            {b"host": b"h:7200", b"x-amz-date": b"a b"},
            (1, 1),
            True,
            0,
            False,
        )


@pytest.mark.parametrize(
    ("request_bytes", "body"), [(PUT, b"hello"), (CHUNKED, b"hello, world!!!")]
)
def test_body_is_read_the_same_however_it_arrives(request_bytes: bytes, body: bytes) -> None:
    for pieces in ways(request_bytes):
        events = read(pieces)
        assert isinstance(events[0], Head)
        assert isinstance(events[-1], End)
        assert body_of(events) == body
        assert events[0].chunked is (b"chunked" in request_bytes)


@pytest.mark.parametrize("request_bytes", [GET, PUT, CHUNKED])
def test_pipelined_request_waits_until_it_is_asked_for(request_bytes: bytes) -> None:
    for pieces in ways(request_bytes + GET):
        reader = RequestReader()
        events = read(pieces, reader)
        assert sum(isinstance(event, Head) for event in events) == 1
        assert reader.ended
        assert reader.unread == GET
        head, end = reader.next_request()
        assert isinstance(head, Head)
        assert head.target == b"/bucket/key"
        assert isinstance(end, End)
        assert reader.next_request() == []
        assert reader.idle


@pytest.mark.parametrize("again", [b"X-Amz-Meta-A", b"x-amz-meta-a"])
def test_repeated_fields_keep_their_order_and_the_first_value_counts(again: bytes) -> None:
    fields = b"Host: h\r\nX-Amz-Meta-A: 1\r\nB: x \r\n%b:  2\t\r\n" % again
    for pieces in ways(b"GET / HTTP/1.1\r\n" + fields + b"\r\n"):
        head = read(pieces)[0]
        assert isinstance(head, Head)
        assert head.headers == {b"host": b"h", b"x-amz-meta-a": b"1", b"b": b"x"}
        assert list(head.repeated) == [
            (b"host", b"h"),
            (b"x-amz-meta-a", b"1"),
            (b"b", b"x"),
            (b"x-amz-meta-a", b"2"),
        ]


@pytest.mark.parametrize("field", [b"A:b ", b"A: b\t", b"A:\t b \t "])
def test_blanks_around_values_are_stripped(field: bytes) -> None:
    for pieces in ways(b"GET / HTTP/1.1\r\nHost: h\r\n" + field + b"\r\nC: d\r\n\r\n"):
        head = read(pieces)[0]
        assert isinstance(head, Head)
        assert head.headers == {b"host": b"h", b"a": b"b", b"c": b"d"}
        assert not head.repeated


def test_empty_lines_before_a_request_are_ignored() -> None:
    for pieces in ways(b"\r\n\r\n" + GET):
        assert isinstance(read(pieces)[0], Head)


@pytest.mark.parametrize("request_bytes", [GET, PUT, CHUNKED])
def test_every_truncation_is_noticed_at_the_end_of_the_connection(request_bytes: bytes) -> None:
    for length in range(1, len(request_bytes)):
        reader = RequestReader()
        events = reader.feed(request_bytes[:length])
        assert not any(isinstance(event, End) for event in events)
        with pytest.raises(HttpError) as caught:
            reader.eof()
        assert caught.value.code == ("IncompleteBody" if events else "BadRequest")


def test_end_of_connection_between_requests_is_fine() -> None:
    reader = RequestReader()
    reader.eof()
    reader.feed(GET)
    reader.next_request()
    reader.eof()
    assert reader.idle


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, "BadRequest"),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BadRequest"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "InvalidURI"),
        (b"\x16\x03\x01\x02\r\n\r\n", 400, "BadRequest"),
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 405, "MethodNotAllowed"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "HTTPVersionNotSupported"),
        (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 505, "HTTPVersionNotSupported"),
        (b"GET /\r\n\r\n", 505, "HTTPVersionNotSupported"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 400, "InvalidRequest"),
    ],
)
def test_malformed_heads_are_refused(lines: bytes, status: int, code: str) -> None:
    error = refused(lines)
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        (b"Content-Length: 3, 4\r\n", 400),
        (b"Content-Length: +3\r\n", 400),
        (b"Content-Length: -3\r\n", 400),
        (b"Content-Length: 0x3\r\n", 400),
        (b"Content-Length: \r\n", 400),
        (b"Content-Length: 99999999999999999999999\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n", 501),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Content-Length: 3\r\ncontent-length: 3\r\n", 400),
        (b"Content-Length: 3\r\nExpect: 100-continue\r\nexpect: 100-continue\r\n", 400),
        (b"host: a\r\n", 400),
        (b"Transfer-Encoding: xchunked\r\n", 501),
        (b"Transfer-Encoding: identity\r\n", 501),
    ],
)
def test_ambiguous_framing_is_refused(framing: bytes, status: int) -> None:
    assert refused(b"PUT / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\nabc").status == status


def test_chunked_is_refused_in_http_1_0() -> None:
    assert refused(b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX",
        b"5\r\nhello\nX",
        b"5;" + b"x" * 2000,
        b"1234567890abcdef0\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\nname: \x00\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * HEADER_BYTES_MAX,
    ],
)
def test_bad_chunk_framing_is_refused(body: bytes) -> None:
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(HttpError) as caught:
        read([head + body])
    assert caught.value.status == 400
    with pytest.raises(HttpError):
        read([head, *[body[i : i + 1] for i in range(len(body))]])


def test_head_without_end_is_refused_at_its_limit_and_bare_line_feeds_at_once() -> None:
    reader = RequestReader()
    start = b"GET / HTTP/1.1\r\nX: "
    reader.feed(start)
    for _ in range(HEADER_BYTES_MAX - len(start)):
        assert reader.feed(b"a") == []
    with pytest.raises(HttpError) as caught:
        reader.feed(b"a")
    assert caught.value.code == "RequestHeaderSectionTooLarge"
    with pytest.raises(HttpError):
        RequestReader().feed(b"GET / HTTP/1.1\n")


def test_large_heads_are_refused() -> None:
    many = b"".join(b"X-%d: a\r\n" % i for i in range(HEADER_COUNT_MAX))
    with pytest.raises(HttpError, match="exceeds"):
        read([b"GET / HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n"])
    with pytest.raises(HttpError, match="exceeds"):
        read([b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n"])
    with pytest.raises(HttpError, match="longer"):
        read([b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"])


def test_keep_alive_follows_version_and_connection_header() -> None:
    def keeps(version: bytes, connection: bytes) -> bool:
        head = read([b"GET / HTTP/%s\r\nHost: a\r\n%s\r\n" % (version, connection)])[0]
        assert isinstance(head, Head)
        return head.keep_alive

    assert keeps(b"1.1", b"")
    assert not keeps(b"1.1", b"Connection: close\r\n")
    assert not keeps(b"1.0", b"")
    assert keeps(b"1.0", b"Connection: keep-alive\r\n")
    assert not keeps(b"1.1", b"Connection: x\r\nConnection: close\r\n")


def test_expectation_counts_only_with_a_body_and_http_1_1() -> None:
    def expects(head: bytes) -> bool:
        event = read([head])[0]
        assert isinstance(event, Head)
        return event.expect_continue

    line = b"Host: a\r\nExpect: 100-Continue\r\n"
    assert expects(b"PUT / HTTP/1.1\r\n" + line + b"Content-Length: 1\r\n\r\n")
    assert expects(b"PUT / HTTP/1.1\r\n" + line + b"Transfer-Encoding: chunked\r\n\r\n")
    assert not expects(b"PUT / HTTP/1.1\r\n" + line + b"\r\n")
    assert not expects(b"PUT / HTTP/1.0\r\n" + line + b"Content-Length: 1\r\n\r\n")


def test_offer_to_upgrade_is_ignored() -> None:
    head, data, _ = read(
        [
            b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 1\r\n\r\nx"
        ]
    )
    assert isinstance(head, Head)
    assert data == Data(b"x")


def test_whole_pieces_of_a_body_are_handed_on_without_a_copy() -> None:
    reader = RequestReader()
    reader.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
    piece = b"abc"
    (event,) = reader.feed(piece)
    assert isinstance(event, Data)
    assert event.data is piece


def test_broken_reader_must_not_be_fed() -> None:
    reader = RequestReader()
    with pytest.raises(HttpError):
        reader.feed(b"\x00\r\n\r\n")
    with pytest.raises(InvariantError):
        reader.feed(GET)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_no_bytes_crash_the_reader(data: bytes, cut: int) -> None:
    for prefix in (b"", b"GET / HTTP/1.1\r\n", CHUNKED[: CHUNKED.index(b"5;")]):
        reader = RequestReader()
        reader.feed(prefix)
        with contextlib.suppress(HttpError):
            reader.feed(data[:cut])
            reader.feed(data[cut:])


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=6), cuts=st.data())
def test_chunked_bodies_survive_any_cutting(chunks: list[bytes], cuts: st.DataObject) -> None:
    raw = CHUNKED[: CHUNKED.index(b"5;")]
    raw += b"".join(chunk_head(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + b"0\r\n\r\n"
    reader = RequestReader()
    events: list[Event] = []
    while raw:
        size = cuts.draw(st.integers(1, len(raw)))
        events += reader.feed(raw[:size])
        raw = raw[size:]
    assert body_of(events) == b"".join(chunks)
    assert isinstance(events[-1], End)


def test_response_head_bytes() -> None:
    now = [784111777.9]
    heads = ResponseHeads(lambda: now[0], server="store")
    assert heads.head(200, [("ETag", '"a"')], length=4, keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: store\r\n"
        b'ETag: "a"\r\nContent-Length: 4\r\n\r\n'
    )
    now[0] += 1
    assert b"08:49:38" in heads.head(200, [], length=0, keep_alive=True)


def test_response_head_framing() -> None:
    heads = ResponseHeads(lambda: 0.0)
    assert b"Transfer-Encoding: chunked" in heads.head(200, [], length=None, keep_alive=True)
    old = heads.head(200, [], length=None, keep_alive=True, version=(1, 0))
    assert b"Connection: close" in old
    assert b"Transfer-Encoding" not in old
    for status in (204, 304):
        assert b"Content-Length" not in heads.head(status, [], length=0, keep_alive=True)
    assert b"Connection: close\r\n" in heads.head(500, [], length=0, keep_alive=False)
    assert heads.head(599, [], length=0, keep_alive=True).startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\0", "日本"])
def test_response_headers_cannot_be_split(value: str) -> None:
    with pytest.raises(InvariantError):
        ResponseHeads(lambda: 0.0).head(200, [("X", value)], length=0, keep_alive=True)
