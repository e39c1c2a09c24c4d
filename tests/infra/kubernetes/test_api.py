"""Requests that an API server may refuse for a moment, and those that it refuses for good."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from objectstore_infra.provider.kubernetes import api
from objectstore_infra.provider.kubernetes.api import (
    Access,
    Cluster,
    ClusterError,
    UnreachableError,
)
from tests.infra.kubernetes.objects import CONFIG_MAP

STARTING = (403, 'forbidden: RBAC: clusterrole.rbac.authorization.k8s.io "cluster-admin" not found')
FORBIDDEN = (403, 'User "somebody" cannot get resource "configmaps"')
NO_LEADER = (500, "etcdserver: leader changed")
BROKEN = (500, "failed to create typed patch object")


class Server:
    """Answers with the given refusals, one each, then with an object."""

    def __init__(self) -> None:
        self.refusals: list[tuple[int, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, message = outer.refusals.pop(0) if outer.refusals else (200, "")
                body = json.dumps({"kind": "Status", "message": message}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.cluster = Cluster(
            Access(f"http://127.0.0.1:{self.http.server_port}", None), unreachable_s=5.0
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on loopback; nobody pauses between two tries."""
    monkeypatch.setattr(api, "RETRY_PAUSE_S", 0.0)
    started = Server()
    thread = threading.Thread(target=started.http.serve_forever)
    thread.start()
    yield started
    started.http.shutdown()
    thread.join()
    started.http.server_close()


@pytest.mark.parametrize("refusal", [STARTING, NO_LEADER, (503, "starting"), (429, "too many")])
def test_a_server_that_starts_or_has_no_leader_is_asked_again(
    server: Server, refusal: tuple[int, str]
) -> None:
    server.refusals = [refusal, refusal]
    assert server.cluster.read(CONFIG_MAP, "x", "a") is not None
    assert not server.refusals


@pytest.mark.parametrize("refusal", [FORBIDDEN, BROKEN, (422, "invalid")])
def test_what_is_refused_for_good_is_told_at_once(server: Server, refusal: tuple[int, str]) -> None:
    server.refusals = [refusal, refusal]
    with pytest.raises(ClusterError, match=refusal[1][:10]) as refused:
        server.cluster.read(CONFIG_MAP, "x", "a")
    assert refused.value.status == refusal[0]
    assert len(server.refusals) == 1


def test_a_server_whose_certificate_is_another_ones_is_not_the_cluster(server: Server) -> None:
    strange = Access(server.cluster._server.replace("http", "https"), ssl.create_default_context())
    with pytest.raises(UnreachableError, match="does not answer at https"):
        Cluster(strange, unreachable_s=0.0).read(CONFIG_MAP, "x", "a")


def test_what_is_not_there_is_no_error(server: Server) -> None:
    server.refusals = [(404, "not found")]
    assert server.cluster.read(CONFIG_MAP, "x", "a") is None
