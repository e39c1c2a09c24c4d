"""The list of pods that Envoy reads, made of what an API server tells; the server is a stand-in."""

from __future__ import annotations

import datetime
import ipaddress
import json
import queue
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from objectstore_app.cli.endpoints import (
    Api,
    EndpointsError,
    Known,
    Place,
    assignment,
    follow,
    places,
    write_if_new,
)

TOKEN = "a-token"
STOP = object()


def slice_of(name: str, *addresses: str, port: str = "s3", **conditions: bool) -> dict:
    return {
        "metadata": {"name": name, "resourceVersion": "8"},
        "ports": [{"name": port, "port": 7200}],
        "endpoints": [{"addresses": [one], "conditions": conditions} for one in addresses],
    }


def test_pods_come_once_and_in_order():
    slices = {"a": slice_of("a", "10.0.0.2", "10.0.0.1"), "b": slice_of("b", "10.0.0.1")}
    assert places(slices, "s3") == [
        Place("10.0.0.1", 7200, draining=False),
        Place("10.0.0.2", 7200, draining=False),
    ]


def test_a_pod_that_is_not_ready_stays_for_envoys_own_checks():
    (place,) = places({"a": slice_of("a", "10.0.0.1", ready=False, serving=False)}, "s3")
    assert not place.draining


def test_a_pod_that_is_ending_gets_no_new_requests():
    ending = slice_of("a", "10.0.0.1", ready=False, serving=True, terminating=True)
    assert places({"a": ending}, "s3") == [Place("10.0.0.1", 7200, draining=True)]
    # Another slice may not have heard of it yet.
    both = {"a": ending, "b": slice_of("b", "10.0.0.1", ready=True)}
    assert places(both, "s3") == [Place("10.0.0.1", 7200, draining=True)]


def test_other_ports_and_empty_slices_are_left_out():
    slices = {
        "a": slice_of("a", "10.0.0.1", port="metrics"),
        "b": {"metadata": {"name": "b"}, "endpoints": None, "ports": None},
    }
    assert places(slices, "s3") == []


def test_the_file_is_an_assignment_that_envoy_reads():
    text = assignment("store", [Place("10.0.0.1", 7200, draining=True)])
    (resource,) = json.loads(text)["resources"]
    assert resource["cluster_name"] == "store"
    # One of a hundred that is well takes all.
    assert resource["policy"]["overprovisioning_factor"] >= 100 * 100
    assert resource["endpoints"][0]["lb_endpoints"] == [
        {
            "health_status": "DRAINING",
            "endpoint": {
                "address": {"socket_address": {"address": "10.0.0.1", "port_value": 7200}}
            },
        }
    ]


def test_a_file_that_says_the_same_is_left_alone(tmp_path: Path):
    path = tmp_path / "store.json"
    assert write_if_new(path, "one")
    before = path.stat().st_ino
    assert not write_if_new(path, "one")
    assert path.stat().st_ino == before
    assert write_if_new(path, "two")
    assert path.stat().st_ino != before
    assert [one.name for one in tmp_path.iterdir()] == ["store.json"]


def test_events_change_what_is_known():
    known = Known({"a": slice_of("a", "10.0.0.1")}, "7")
    assert known.apply({"type": "ADDED", "object": slice_of("b", "10.0.0.2")})
    assert known.apply({"type": "DELETED", "object": slice_of("a")})
    assert sorted(known.slices) == ["b"]
    assert known.apply({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    assert (sorted(known.slices), known.version) == (["b"], "9")
    assert not known.apply({"type": "ERROR", "object": {}})


class StandIn:
    """An API server that knows the slices of one Service; `events` are what its watches tell."""

    def __init__(self, folder: Path) -> None:
        self.listed: list[dict] = []
        self.events: queue.Queue = queue.Queue()
        self.asked: list[dict[str, list[str]]] = []
        self.status = 200
        make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        (folder / "token").write_text(f"{TOKEN}\n")
        url = f"https://127.0.0.1:{self.server.server_port}"
        self.api = Api(url, folder / "cert.pem", folder / "token", "objectstore", "controller")


def handler_of(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            stand_in.asked.append(query)
            assert parts.path.endswith("/namespaces/objectstore/endpointslices")
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.send_response(stand_in.status if known else 401)
            self.end_headers()
            if "watch" not in query:
                answer = {"metadata": {"resourceVersion": "7"}, "items": stand_in.listed}
                self.wfile.write(json.dumps(answer).encode())
                return
            while (event := stand_in.events.get()) is not STOP:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    server = StandIn(tmp_path)
    yield server
    server.events.put(STOP)
    server.server.shutdown()
    server.server.server_close()


def test_what_is_listed_comes_first_then_each_change(stand_in: StandIn):
    stand_in.listed = [slice_of("a", "10.0.0.1")]
    stand_in.events.put({"type": "ADDED", "object": slice_of("b", "10.0.0.2")})
    stand_in.events.put({"type": "DELETED", "object": slice_of("a")})
    stand_in.events.put(STOP)
    seen: list[list[str]] = []
    follow(stand_in.api, lambda known: seen.append(sorted(known.slices)))
    assert seen == [["a"], ["a", "b"], ["b"]]
    listing, watch = stand_in.asked
    assert listing["labelSelector"] == ["kubernetes.io/service-name=controller"]
    assert watch["resourceVersion"] == ["7"]


def test_a_version_that_is_too_old_ends_the_watch(stand_in: StandIn):
    stand_in.events.put({"type": "ERROR", "object": {"kind": "Status", "code": 410}})
    stand_in.events.put({"type": "ADDED", "object": slice_of("b", "10.0.0.2")})
    seen: list[list[str]] = []
    follow(stand_in.api, lambda known: seen.append(sorted(known.slices)))
    assert seen == [[]]


@pytest.mark.parametrize("status", [403, 500])
def test_an_answer_that_is_no_list_is_an_error(stand_in: StandIn, status: int):
    stand_in.status = status
    with pytest.raises(EndpointsError, match=f"answered {status}"):
        stand_in.api.listed()


def test_the_token_is_read_for_each_question(stand_in: StandIn):
    stand_in.api.token.write_text("an-old-token")
    with pytest.raises(EndpointsError, match="answered 401"):
        stand_in.api.listed()
    stand_in.api.token.write_text(TOKEN)
    assert stand_in.api.listed().version == "7"


def test_a_server_that_is_away_is_an_error(stand_in: StandIn):
    away = Api("https://127.0.0.1:1", stand_in.api.ca, stand_in.api.token, "objectstore", "c")
    with pytest.raises(EndpointsError, match="reach the API server"):
        away.listed()


def test_a_server_of_another_authority_is_refused(stand_in: StandIn, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    make_certificate(other)
    api = Api(stand_in.api.url, other / "cert.pem", stand_in.api.token, "objectstore", "c")
    with pytest.raises(EndpointsError, match="certificate verify failed"):
        api.listed()
    assert stand_in.asked == []


def make_certificate(folder: Path) -> None:
    """cert.pem, self-signed for 127.0.0.1, and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
