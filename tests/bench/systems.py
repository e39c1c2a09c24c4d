"""The systems under measurement: how each is started on a free port and an empty folder."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "benchmarkadmin"
SECRET_KEY = "benchmark-secret-key"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class System:
    """A running server. `pid` is the root of its process tree; `start_s` until it was ready."""

    name: str
    version: str
    durability: str
    port: int
    pid: int
    start_s: float

    def usage(self) -> tuple[float, float, float]:
        """Processor seconds, resident MiB and proportional MiB of the whole process tree."""
        cpu_s, resident, proportional = 0.0, 0, 0
        for pid in _tree(self.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    resident += int(line.split()[1])
                elif line.startswith("Pss:"):
                    proportional += int(line.split()[1])
        return cpu_s, resident / 1024, proportional / 1024


@contextmanager
def objectstore(folder: Path, workers: int) -> Iterator[System]:
    """Our embedded store, as an operator starts it."""
    port = _free_port()
    argv = [
        *(sys.executable, "-m", "objectstore_app", "serve", "--data", str(folder / "data")),
        *("--listen", f"127.0.0.1:{port}", "--workers", str(workers)),
    ]
    environment = {
        "OBJECTSTORE_ROOT_ACCESS_KEY": ACCESS_KEY,
        "OBJECTSTORE_ROOT_SECRET_KEY": SECRET_KEY,
    }
    version = subprocess.run(
        [sys.executable, "-m", "objectstore_app", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]
    with _running(argv, environment, folder, port, "/_health/ready") as (pid, start_s):
        yield System("objectstore", version, "1 fdatasync a commit", port, pid, start_s)


@contextmanager
def minio(folder: Path, binary: str) -> Iterator[System]:
    """MinIO on a single folder."""
    port = _free_port()
    argv = [
        *(binary, "server", "--quiet", "--address", f"127.0.0.1:{port}"),
        *("--console-address", f"127.0.0.1:{_free_port()}", str(folder / "data")),
    ]
    environment = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_UPDATE": "off",
    }
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    version = (shown.stdout.split() or ["", "", "unknown"])[2]
    with _running(argv, environment, folder, port, "/minio/health/ready") as (pid, start_s):
        yield System("minio", version, "1 fdatasync an object", port, pid, start_s)


@contextmanager
def _running(
    argv: list[str], environment: dict[str, str], folder: Path, port: int, ready: str
) -> Iterator[tuple[int, float]]:
    log = folder / "server.log"
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        _wait_until_ready(process, port, ready, log)
        yield process.pid, time.monotonic() - started
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", ready)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _tree(root: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += parents.get(pid, [])
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
