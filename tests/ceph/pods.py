"""Pods of a store as processes on loopback: `objectstore service NAME`, a folder and ports of its
own each. Whoever starts one ends it: every process of a pod is in one process group.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.config.shard_map import ShardMap, decode_map
from tests.ceph.cluster import POOLS, wait_until

SHARDS = 3
END_S_MAX = 60.0


class Pod:
    """A pod and its folder. `start` returns at once; `stop`, `kill` and `pause` are for all of its
    processes.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        service: str,
        zookeeper: ZooKeeperSettings,
        ceph: Path,
        namespace: str,
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.port, self.health_port = _free_ports(2)
        self._service = service
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        tls = zookeeper.tls
        assert tls is not None
        hosts = ", ".join(f'"{host}"' for host in zookeeper.hosts)
        (folder / "service.toml").write_text(
            f"""
store = "{namespace}"
shards = {SHARDS}
data = "{self.data}"
cluster_listen = "127.0.0.1:{self.port}"
health_listen = "127.0.0.1:{self.health_port}"
cluster_ca = "{tls.ca}"
cluster_cert = "{tls.certificate}"
cluster_key = "{tls.key}"
zookeeper = [{hosts}]
zookeeper_ca = "{tls.ca}"
zookeeper_cert = "{tls.certificate}"
zookeeper_key = "{tls.key}"
zookeeper_session = {zookeeper.session_s}
log_format = "text"
ceph_conf = "{ceph / "ceph.conf"}"
ceph_client = "client.store"
ceph_pools = {{ log = "{POOLS[0]}", open = "{POOLS[1]}", cold = "{POOLS[2]}" }}
{more}
"""
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        root = str(Path(__file__).parents[2])
        environment = {"POD_NAME": self.name, "POD_IP": "127.0.0.1", "PYTHONPATH": root}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "objectstore_app", "service", self._service, "--config",
                 str(self.folder / "service.toml")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment, **self._environment},
                start_new_session=True,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """A signal to all of its processes."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9 of all of its processes, if it lives."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self._process.wait(END_S_MAX)
            self._process = None

    def terminate(self) -> None:
        """Ask it to end, as Kubernetes does."""
        os.kill(self.pid, signal.SIGTERM)

    def end(self) -> int:
        """Wait until it ended; its exit code."""
        assert self._process is not None
        code = self._process.wait(END_S_MAX)
        self._process = None
        return code

    def child(self, name: str) -> int:
        """The process that a child is now, by what the supervisor said last."""
        found = re.findall(
            rf"child_started .* child={name} child_pid=(\d+)", self.log.read_text(errors="replace")
        )
        assert found, f"{name} was never started: see {self.log}"
        return int(found[-1])

    def map(self) -> ShardMap:
        """The pod's copy of the shard map; empty while there is none."""
        with suppress(FileNotFoundError):
            return decode_map((self.run / "map.json").read_bytes(), self.name)
        return ShardMap()

    def health(self) -> tuple[int, dict[str, object]]:
        """Status and content of /_health/ready; 0 while nobody answers."""
        url = f"http://127.0.0.1:{self.health_port}/_health/ready"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def wait_ready(self, limit_s: float = END_S_MAX) -> None:
        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended: see {self.log}"
            return self.health()[0] == 200

        wait_until(is_ready, f"{self.name} ready: see {self.log}", limit_s)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
