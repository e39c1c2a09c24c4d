"""A real ZooKeeper ensemble on loopback in one folder: three servers, mutual TLS.

The jars are those of the bundle's artefact `layer-zookeeper`, taken from the builder's cache; Java
is this machine's. Every server is a child of this process, ended by its own pid, and dies with us
(PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from objectstore_app.config.service import ClusterTls, ZooKeeperSettings
from objectstore_app.config.settings import Address
from tests.engine.authorities import make_authorities

SERVERS = 3
TICK_MS = 1000
SESSION_S = 3.0
START_S_MAX = 120.0
STOP_S_MAX = 10.0
ARTEFACT = "layer-zookeeper"
CLASS_PATH = (
    "zookeeper", "zookeeper-jute", "netty-buffer", "netty-codec", "netty-common", "netty-handler",
    "netty-resolver", "netty-transport", "netty-transport-native-epoll",
    "netty-transport-native-unix-common", "slf4j-api", "slf4j-simple", "commons-io", "commons-cli",
    "metrics-core", "snappy-java",
)  # fmt: skip
_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_CONF = """
tickTime={tick}
initLimit=10
syncLimit=5
minSessionTimeout={session_min}
dataDir={folder}/data
secureClientPort={port}
secureClientPortAddress=127.0.0.1
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
ssl.keyStore.location={pem}
ssl.trustStore.location={ca}
ssl.clientAuth=need
sslQuorum=true
ssl.quorum.keyStore.location={pem}
ssl.quorum.trustStore.location={ca}
ssl.quorum.hostnameVerification=false
admin.enableServer=false
standaloneEnabled=false
forceSync=no
{servers}
"""


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "objectstore" / "artefacts"


def _packages() -> list[Path]:
    """The artefact's packages as the newest build made them; empty when there is none."""
    made = sorted(
        (_cache() / "made" / ARTEFACT).glob("*.json"), key=lambda path: path.stat().st_mtime
    )
    rows = json.loads(made[-1].read_text()) if made else []
    files = [_cache() / "files" / row["sha256"] for row in rows if row["name"].endswith(".deb")]
    return files if all(file.exists() for file in files) else []


def missing() -> str:
    """What this machine lacks for an ensemble; empty when it has all."""
    for name in ("java", "dpkg-deb"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    if not _packages():
        return f"the artefact {ARTEFACT} is not in the cache: make bundle"
    return ""


class Ensemble:
    """Start it with `start`; always call `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = _free_ports(3 * SERVERS)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._log_from: dict[int, int] = {}

    @property
    def servers(self) -> tuple[int, ...]:
        return tuple(range(SERVERS))

    def settings(self, root: str, session_s: float = SESSION_S) -> ZooKeeperSettings:
        pki = self._folder / "pki"
        return ZooKeeperSettings(
            tuple(Address("127.0.0.1", self._ports[number]) for number in self.servers),
            root,
            ClusterTls(pki / "ca.pem", pki / "node.pem", pki / "node.key"),
            session_s,
        )

    def start(self) -> None:
        """Return once every server serves."""
        pki = self._folder / "pki"
        pki.mkdir(parents=True)
        make_authorities(pki)
        both = (pki / "node.key").read_bytes() + (pki / "node.pem").read_bytes()
        (pki / "both.pem").write_bytes(both)
        for package in _packages():
            subprocess.run(["dpkg-deb", "-x", package, self._folder / "root"], check=True)
        names = "\n".join(
            f"server.{number}=127.0.0.1:{self._ports[SERVERS + number]}:"
            f"{self._ports[2 * SERVERS + number]}"
            for number in self.servers
        )
        for number in self.servers:
            own = self._folder / str(number)
            (own / "data").mkdir(parents=True)
            (own / "data" / "myid").write_text(f"{number}\n")
            (own / "zoo.cfg").write_text(
                _CONF.format(
                    tick=TICK_MS, session_min=2 * TICK_MS, folder=own, port=self._ports[number],
                    pem=pki / "both.pem", ca=pki / "ca.pem", servers=names,
                )
            )  # fmt: skip
            self.start_server(number)
        self.wait_serving(*self.servers)

    def start_server(self, number: int) -> None:
        jars = self._folder / "root" / "usr" / "share" / "java"
        own = self._folder / str(number)
        with open(own / "log", "ab") as log:
            self._log_from[number] = log.tell()
            self._processes[number] = subprocess.Popen(
                [
                    "java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx64m",
                    "-cp", ":".join(str(jars / f"{name}.jar") for name in CLASS_PATH),
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain", own / "zoo.cfg",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: _libc.prctl(_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip

    def wait_serving(self, *numbers: int) -> None:
        deadline = time.monotonic() + START_S_MAX
        while not all(self._role(number) for number in numbers):
            assert time.monotonic() < deadline, f"ZooKeeper does not serve: see {self._folder}"
            time.sleep(0.1)

    def leader(self) -> int:
        """The number of the server that leads."""
        deadline = time.monotonic() + START_S_MAX
        while True:
            for number in self._processes:
                if self._role(number) == "leading":
                    return number
            assert time.monotonic() < deadline, f"nobody leads: see {self._folder}"
            time.sleep(0.1)

    def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
        for process in self._processes.values():
            process.wait(STOP_S_MAX)
        self._processes.clear()

    def _role(self, number: int) -> str:
        """`leading` or `following`, as the server said last in this life; empty for neither."""
        process = self._processes.get(number)
        assert process is None or process.poll() is None, f"it ended: see {self._folder}/{number}"
        content = (self._folder / str(number) / "log").read_bytes()
        said = content[self._log_from[number] :].decode(errors="replace")
        states = re.findall(r"Peer state changed: (\w+)(?: - (\w+))?", said)
        role, phase = states[-1] if states else ("", "")
        return role if phase == "broadcast" else ""


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
