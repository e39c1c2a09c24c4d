"""The clients of the bench: signatures, prepared requests, where an answer ends."""

from __future__ import annotations

import hashlib
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from objectstore_app.protocol.sigv4_signer import sign_request
from tests.bench import bulk, load, wrk
from tests.bench.cases import list_keys
from tests.bench.conversation import Answer, AnswerReader, Ask, dechunked
from tests.bench.outcome import CaseError
from tests.bench.recorder import many
from tests.bench.signing import ACCESS_KEY, REGION, SECRET_KEY, Signer
from tests.bench.workloads import Part, next_token, upload_digest

HOST = "127.0.0.1:7200"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    ["/b/k", "/b/a/b%20c", "/b?delimiter=%2F&list-type=2&prefix=p3%2F", "/b/k?uploads="],
)
def test_fast_signature_is_that_of_the_products_signer(target, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.9)
    payload_hash = hashlib.sha256(b"x").hexdigest()
    head = Signer(HOST).head("PUT", target, length=1, payload_hash=payload_hash).decode()
    expected = sign_request(
        "PUT",
        target,
        {"host": HOST},
        access_key=ACCESS_KEY,
        secret=SECRET_KEY,
        region=REGION,
        now=1_800_000_000,
        payload_hash=payload_hash,
    )
    lines = head.split("\r\n")
    assert lines[0] == f"PUT {target} HTTP/1.1"
    assert f"Authorization: {expected['authorization']}" in lines
    assert f"x-amz-date: {expected['x-amz-date']}" in lines
    assert "Content-Length: 1" in lines


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED, EMPTY])
@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_answer_ends_at_its_last_byte_however_it_arrives(raw, step):
    reader = AnswerReader()
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    ends = [reader.feed(piece) for piece in pieces]
    assert ends == [False] * (len(pieces) - 1) + [True]
    assert reader.received == len(raw)
    assert Answer(reader.status, reader.head, tuple(pieces)).body in (b"hello", b"")


def test_chunks_become_the_content():
    assert dechunked(b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n") == b"hello"


def test_bodies_differ_at_their_end_and_carry_the_hash_of_the_whole():
    body = wrk.Body(4096, seed=1)
    signer = Signer(HOST)
    prepared = wrk.prepare_puts(signer, ["/b/0", "/b/1"], body)
    first, second = (prepared.request(index).partition(b"\r\n\r\n") for index in (0, 1))
    assert len(first[2]) == len(second[2]) == 4096
    assert first[2] != second[2]
    assert hashlib.sha256(first[2]).hexdigest().encode() in first[0]


def test_prepared_requests_are_written_as_the_script_reads_them(tmp_path):
    prepared = wrk.Prepared(1, b"shared", [b"PUT", b"GET!"], [b"end", b""])
    prepared.write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"2 6\nshared3 3\nPUTend4 0\nGET!"


def test_mix_keeps_every_put_once_and_the_share_of_gets():
    gets = wrk.Prepared(1, heads=[b"G"], endings=[b""])
    puts = wrk.Prepared(1, b"s", [b"P%d" % n for n in range(3000)], [b"e"] * 3000)
    mixed = wrk.mix(gets, puts, get_share=0.7, seed=1)
    assert [head for head in mixed.heads if head != b"G"] == puts.heads
    assert 0.68 < mixed.heads.count(b"G") / len(mixed.heads) < 0.72
    assert [end for end in mixed.endings if end] == puts.endings


def test_parts_of_uploads_have_no_megabyte_in_common():
    part = Part()
    seen = [bytes(part.stamp(upload, number)) for upload in (0, 1) for number in (1, 2)]
    blocks = {content[at : at + 2**20] for content in seen for at in range(0, len(content), 2**20)}
    assert len(blocks) == 4 * 8
    assert upload_digest(0, part) != upload_digest(1, part)


def test_text_compresses_to_about_a_half_and_the_rest_not_at_all():
    drawn, text = wrk.random_bytes(10_000, 1), wrk.random_bytes(10_000, 1, text=True)
    assert len(drawn) == len(text) == 10_000
    assert len(zlib.compress(drawn)) > 9_900
    assert 4_500 < len(zlib.compress(text)) < 6_500


@pytest.mark.parametrize("filling", [b"", b"<Contents/>" * 2000])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_token_is_found_before_and_after_the_keys(filling, chunked, last):
    token = b"<NextContinuationToken>a&amp;b</NextContinuationToken>"
    body = filling + token if last else token + filling
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    if chunked:
        head = CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        body = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
    for step in (7, 100, 5000, len(body)):
        pieces = (head, *(body[at : at + step] for at in range(0, len(body), step)))
        assert next_token(Answer(200, head, pieces)) == "a&b"


def test_keys_to_list_are_all_different():
    assert len(set(list_keys(10_000))) == 10_000


class Toy(BaseHTTPRequestHandler):
    """Answers a GET with a large body, a missing key with an error."""

    protocol_version = "HTTP/1.1"
    CONTENT = b"x" * 300_000

    def do_GET(self):
        missing = self.path == "/missing"
        body = b"<Error><Code>NoSuchKey</Code></Error>" if missing else self.CONTENT
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def toy():
    with ThreadingHTTPServer(("127.0.0.1", 0), Toy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


REQUEST = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("client", [load.measure, bulk.measure])
def test_clients_count_operations_bytes_and_times(toy, client):
    requests = iter([REQUEST % b"there"] * 20)
    outcome = client(toy, many(requests, 3), seconds=60)
    assert (outcome.operations, outcome.failures) == (20, {})
    assert outcome.read_bytes > 20 * len(Toy.CONTENT)
    assert 0 < outcome.ttfb_ms <= outcome.p99_ms
    assert outcome.p50_ms <= outcome.p99_ms
    assert outcome.seconds > 0


@pytest.mark.parametrize("client", [load.measure, bulk.measure])
def test_clients_name_the_error_that_was_answered(toy, client):
    outcome = client(toy, many(iter([REQUEST % b"missing"]), 1), seconds=60)
    with pytest.raises(CaseError, match="404 NoSuchKey"):
        outcome.check("case")


@pytest.mark.parametrize("client", [load.measure, bulk.measure])
def test_operation_of_several_requests_counts_once(toy, client):
    kept = []

    def conversation():
        first = yield Ask((REQUEST % b"a",), completes=False, keep=True)
        kept.append(first.body)
        yield Ask((REQUEST % b"b",))

    outcome = client(toy, [conversation()], seconds=60)
    assert outcome.operations == 1
    assert kept == [Toy.CONTENT]
