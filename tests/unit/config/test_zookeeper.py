"""Which servers a pod believes to be ZooKeeper."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from objectstore_app.config.service import ClusterTls, ZooKeeperSettings
from objectstore_app.config.settings import Address
from objectstore_app.config.zookeeper import ZooKeeper
from tests.engine.authorities import make_authorities

WAIT_S = 20.0


class Server:
    """Takes connections with a certificate, and notes what came of each."""

    def __init__(self, tls: Path, node: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls / f"{node}.pem", tls / f"{node}.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.refused, self.spoken_to = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as peer:
                    (self.spoken_to if peer.recv(1) else self.refused).set()
            except OSError:
                self.refused.set()


@pytest.mark.parametrize("node", ["node", "stranger"])
def test_server_of_an_authority_that_only_the_system_trusts_is_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    tls = make_authorities(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "other-ca.pem"))
    server = Server(tls, node)
    ours = ClusterTls(tls / "ca.pem", tls / "node.pem", tls / "node.key")
    session = ZooKeeper(ZooKeeperSettings((server.address,), "/store", ours, 3.0), "pod")
    session.start(lambda: None)
    try:
        told, other = server.spoken_to, server.refused
        if node == "stranger":
            told, other = other, told
        assert told.wait(WAIT_S)
        assert not other.is_set()
    finally:
        session.close()
        server.close()
