"""The systems under measurement: how each is started on a free port over a folder of its own.

Each is run as it comes, with no option that makes it safer or faster, but these: logs of requests
are off everywhere (our own writes its log to a file, as it would), and connections are kept alive.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .bulk import Connection
from .conversation import Ask
from .outcome import CaseError
from .peers import GARAGE, MINIO, VERSITY, Peer, version_of
from .signing import ACCESS_KEY, REGION, SECRET_KEY, Signer

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.005
BUCKET = "bench"
OURS = "objectstore"
OUR_MODULES = (
    "cli.serve",
    *(f"cli.processes.{name}" for name in ("opening", "front_end", "writer", "atlas", "watching")),
    "runtime.certificates",
)


@dataclass(frozen=True)
class Launch:
    """How a system is started: `argv` and environment for a folder and a port."""

    argv: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class System:
    """A product in one configuration. `quick_ack`: its answers wait for acknowledgements."""

    name: str
    durability: str
    launch: Callable[[str, Path, int], Launch]
    peer: Peer | None = None
    quick_ack: bool = False
    by_default: bool = True

    def version(self, binary: str) -> str:
        if self.peer:
            return version_of(self.peer, binary)
        argv = [binary, "-m", "objectstore_app", "--version"]
        shown = subprocess.run(argv, capture_output=True, text=True, check=True)
        return shown.stdout.split()[-1]


def launch_ours(binary: str, folder: Path, port: int, *, options: tuple[str, ...] = ()) -> Launch:
    """Our store as an operator starts it, with further options of `serve`."""
    return Launch(
        [
            *(binary, "-m", "objectstore_app", "serve", "--data", str(folder / "data")),
            *("--listen", f"127.0.0.1:{port}", *options),
        ],
        {"OBJECTSTORE_ROOT_ACCESS_KEY": ACCESS_KEY, "OBJECTSTORE_ROOT_SECRET_KEY": SECRET_KEY},
    )


def _minio(binary: str, folder: Path, port: int) -> Launch:
    return Launch(
        [
            *(binary, "server", "--quiet", "--address", f"127.0.0.1:{port}"),
            *("--console-address", f"127.0.0.1:{free_port()}", str(folder / "data")),
        ],
        {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_UPDATE": "off"},
    )


def _versity(binary: str, folder: Path, port: int) -> Launch:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    try:
        os.setxattr(data, "user.bench", b"1")
    except OSError as error:
        said = f"{folder} keeps no user attributes, which Versity needs: {error}"
        raise CaseError(said) from error
    return Launch(
        [
            *(binary, "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive"),
            *("--region", REGION, "posix", str(data)),
        ],
        {"ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY},
    )


def _garage(binary: str, folder: Path, port: int, *, sync: bool = False) -> Launch:
    configuration = folder / "garage.toml"
    rpc = free_port()
    configuration.write_text(
        f'metadata_dir = "{folder}/meta"\ndata_dir = "{folder}/data"\ndb_engine = "lmdb"\n'
        f"metadata_fsync = {str(sync).lower()}\ndata_fsync = {str(sync).lower()}\n"
        f'replication_factor = 1\nrpc_bind_addr = "127.0.0.1:{rpc}"\n'
        f'rpc_public_addr = "127.0.0.1:{rpc}"\nrpc_secret = "{"5e" * 32}"\n'
        f'[s3_api]\ns3_region = "{REGION}"\napi_bind_addr = "127.0.0.1:{port}"\n',
        encoding="utf-8",
    )
    return Launch(
        [binary, "-c", str(configuration), "server", "--single-node", "--default-access-key"],
        {
            "GARAGE_DEFAULT_ACCESS_KEY": ACCESS_KEY,
            "GARAGE_DEFAULT_SECRET_KEY": SECRET_KEY,
            "RUST_LOG": "warn",
        },
    )


def _garage_sync(binary: str, folder: Path, port: int) -> Launch:
    return _garage(binary, folder, port, sync=True)


OUR_SYSTEM = System(OURS, "1 fdatasync a commit", launch_ours)
SYSTEMS = (
    OUR_SYSTEM,
    System("minio", "1 fdatasync an object", _minio, MINIO),
    System("versity", "none", _versity, VERSITY),
    System("garage", "none (its default)", _garage, GARAGE, quick_ack=True),
    System(
        "garage-sync", "about 20 fdatasync an object", _garage_sync, GARAGE, True, by_default=False
    ),
)


class Server:
    """One system over one folder. It can be stopped, and started again over what it left."""

    def __init__(self, system: System, binary: str, folder: Path) -> None:
        self.system = system
        self.version = system.version(binary)
        self._binary = binary
        self._folder = folder
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        if self._process is None:
            raise CaseError(f"{self.system.name} does not run")
        return self._process.pid

    @property
    def signer(self) -> Signer:
        return Signer(f"127.0.0.1:{self.port}")

    def start(self) -> float:
        """Start it; returns the seconds until it had acknowledged a PUT. Raises: CaseError."""
        self.port = free_port()
        launch = self.system.launch(self._binary, self._folder, self.port)
        began = time.monotonic()
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.environment},
            )
        while not (self._put(f"/{BUCKET}") and self._put(f"/{BUCKET}/first", b"x")):
            if time.monotonic() - began > START_TIMEOUT_S or self._process.poll() is not None:
                said = self._log.read_text(errors="replace")[-1000:]
                self.stop()
                raise CaseError(f"{self.system.name} did not start: {said}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def _put(self, target: str, body: bytes = b"") -> bool:
        """Whether it succeeded; a bucket that is there already counts as made."""
        try:
            with Connection(self.port) as connection:
                answer = connection.exchange(Ask((self.signer.put(target, body),)))
        except OSError:
            return False
        return answer.status == 200 or b"BucketAlreadyOwnedByYou" in answer.body

    def stop(self) -> None:
        """Ask it to end, and see that it has."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@functools.cache
def our_binary() -> str:
    """Our store runs in the interpreter that runs the bench. Its bytecode is there, as where it was
    installed from a wheel, however this tree came here.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = "\n".join(f"import objectstore_app.{module}" for module in OUR_MODULES)
    subprocess.run([sys.executable, "-c", code], env=kept, check=True)
    return sys.executable
