"""A real Ceph cluster on loopback in one folder: a mon, a mgr, three OSDs on files, cephx on.

Every daemon is a child of this process in the foreground, so it is stopped by its own pid and dies
with us (PR_SET_PDEATHSIG). Keys are made here and handed over in the first keyring, so no `ceph`
command is needed: the cluster is up in seconds. The client `client.store` may read and write the
store's pools and nothing else.

By hand: `python -m tests.ceph.cluster FOLDER` keeps one running until a signal or a line's end.
"""

from __future__ import annotations

import base64
import ctypes
import json
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

OSDS = 3
POOLS = ("store.log", "store.open", "store.cold")
"""Of logs and chunks, three replicas each; of old chunks, erasure-coded over three OSDs."""
MODULES = "modules"
"""A folder that stays empty: none of the manager's modules is used."""
PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool")
START_S_MAX = 60.0
STOP_S_MAX = 10.0
_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/$name.keyring
admin socket = {folder}/run/$name.$pid.asok
run dir = {folder}/run
crash dir = {folder}/run
log file = {folder}/$name.log
log to stderr = false
osd pool default size = 3
osd pool default min size = 2
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool delete = true
mon max pg per osd = 1000
mon osd min down reporters = 1
osd heartbeat interval = 2
osd heartbeat grace = 6
mon data avail warn = 1
mon data avail crit = 1
mon warn on insecure global id reclaim allowed = false
[mon.a]
mon data = {folder}/mon
[mgr.x]
mgr data = {folder}/mgr
mgr initial modules =
mgr module path = {folder}/{modules}
[osd]
osd data = {folder}/osd$id
osd objectstore = bluestore
bluestore block size = {osd_bytes}
bluestore cache autotune = false
bluestore cache size = 33554432
osd op num shards = 2
osd class update on start = false
"""


def missing() -> str:
    """What this machine lacks for a cluster; empty when it has all."""
    for name in PROGRAMS:
        if shutil.which(name) is None:
            return f"{name} is not installed"
    try:
        import rados  # noqa: F401 - only whether it is there
    except ImportError:
        return "python3-rados is not installed for this interpreter"
    return ""


class CephCluster:
    """Start it with `start`; always call `stop`."""

    def __init__(self, folder: Path, *, osd_bytes: int = 12 << 30) -> None:
        self.folder = folder
        self.conf = folder / "ceph.conf"
        self.keyring = folder / "client.store.keyring"
        self._osd_bytes = osd_bytes
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._keys = {
            name: _new_key()
            for name in ("mon.", "client.admin", "client.store", "mgr.x", *map(_osd, range(OSDS)))
        }

    def start(self) -> None:
        """Return once the pool takes writes on all three OSDs."""
        for name in ("run", MODULES):
            (self.folder / name).mkdir(parents=True)
        fsid, (v2, v1) = str(uuid.uuid4()), _free_ports(2)
        self.conf.write_text(
            _CONF.format(
                fsid=fsid,
                v2=v2,
                v1=v1,
                folder=self.folder,
                modules=MODULES,
                osd_bytes=self._osd_bytes,
            )
        )
        self._write_keyrings()
        monmap = self.folder / "monmap"
        address = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(monmap))
        self._run(
            "ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap),
            "--keyring", str(self.folder / "initial.keyring"),
        )  # fmt: skip
        self._spawn("mon.a", "ceph-mon", "-i", "a")
        self._spawn("mgr.x", "ceph-mgr", "-i", "x")
        mkfs = []
        for number in range(OSDS):
            identity = str(uuid.uuid4())
            self.command(prefix="osd new", uuid=identity, id=number)
            (self.folder / f"osd{number}").mkdir()
            argv = ("ceph-osd", "--mkfs", "-i", str(number), "--osd-uuid", identity)
            mkfs.append(subprocess.Popen([*argv, "-c", str(self.conf)], stderr=subprocess.DEVNULL))
        for number, process in enumerate(mkfs):
            assert process.wait() == 0, f"mkfs of osd.{number} failed: see {self.folder}"
            self.start_osd(number)
        for pool in POOLS[:2]:
            self.command(prefix="osd pool create", pool=pool, pg_num=8, size=3)
        profile = ["k=2", "m=1", "crush-failure-domain=osd"]
        self.command(prefix="osd erasure-code-profile set", name="cold", profile=profile)
        self.command(
            prefix="osd pool create", pool=POOLS[2], pg_num=8, pool_type="erasure",
            erasure_code_profile="cold",
        )  # fmt: skip
        self.command(prefix="osd pool set", pool=POOLS[2], var="min_size", val="2")
        for pool in POOLS:
            self.command(prefix="osd pool application enable", pool=pool, app="objectstore")
        self.wait_clean()

    def stop(self) -> None:
        """End every daemon, by its pid; the folder stays."""
        for process in self._daemons.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self._daemons.values():
            process.wait(STOP_S_MAX)
        self._daemons.clear()

    def pids(self) -> list[int]:
        """Of all daemons that run."""
        return [process.pid for process in self._daemons.values()]

    def start_osd(self, number: int) -> None:
        self._spawn(_osd(number), "ceph-osd", "-i", str(number))

    def kill(self, name: str) -> None:
        """kill -9 of one daemon: mon.a, mgr.x, osd.N."""
        process = self._daemons.pop(name)
        process.kill()
        process.wait()

    def command(self, **command: object) -> bytes:
        """A command of the monitor, as the administrator. Waits for the monitor at first."""
        import rados

        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                return self._command(rados, json.dumps(command))
            except (rados.OSError, rados.Error) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{command}: {error}") from error
            time.sleep(0.1)

    def wait_down(self, number: int) -> None:
        """Until the monitor counts an OSD that was killed as down."""

        def is_down() -> bool:
            found = json.loads(self.command(prefix="osd dump", format="json"))["osds"]
            return any(one["osd"] == number and not one["up"] for one in found)

        wait_until(is_down, f"osd.{number} down")

    def wait_clean(self) -> None:
        """Until all OSDs are up and every placement group is active+clean."""
        wait_until(self._clean, "all placement groups active+clean")

    def _clean(self) -> bool:
        status = json.loads(self.command(prefix="status", format="json"))
        osds, pgs = status["osdmap"], status["pgmap"]
        states = {one["state_name"]: one["count"] for one in pgs.get("pgs_by_state", [])}
        return (
            osds["num_up_osds"] == osds["num_osds"] == OSDS
            and pgs["num_pgs"] > 0
            and states == {"active+clean": pgs["num_pgs"]}
        )

    def _command(self, rados, command: str) -> bytes:
        if not hasattr(self, "_admin"):
            admin = rados.Rados(conffile=str(self.conf), name="client.admin")
            admin.connect(timeout=5)
            self._admin = admin
        code, out, said = self._admin.mon_command(command, b"", timeout=20)
        assert code == 0, f"{command}: {code} {said}"
        return bytes(out)

    def _write_keyrings(self) -> None:
        caps = {
            "mon.": {"mon": "allow *"},
            "client.admin": dict.fromkeys(("mon", "mgr", "osd", "mds"), "allow *"),
            "client.store": {
                "mon": "allow r",
                "osd": ", ".join(f"allow rwx pool={pool}" for pool in POOLS),
            },
            "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
        }
        caps |= {
            _osd(number): {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"}
            for number in range(OSDS)
        }
        everything = []
        for name, key in self._keys.items():
            lines = [f"[{name}]", f"\tkey = {key}"]
            own = "\n".join(lines) + "\n"
            file = "mon.a" if name == "mon." else name
            (self.folder / f"{file}.keyring").write_text(own)
            everything += lines + [f'\tcaps {kind} = "{cap}"' for kind, cap in caps[name].items()]
        (self.folder / "initial.keyring").write_text("\n".join(everything) + "\n")

    def _run(self, *argv: str) -> None:
        subprocess.run(
            [*argv, "-c", str(self.conf)], check=True, capture_output=True, timeout=START_S_MAX
        )

    def _spawn(self, name: str, *argv: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                [*argv, "-f", "-c", str(self.conf)],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: _libc.prctl(_PDEATHSIG, signal.SIGKILL),
            )


def wait_until(holds: Callable[[], bool], what: str, limit_s: float = START_S_MAX) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {limit_s} s for: {what}"
        time.sleep(0.1)


def _osd(number: int) -> str:
    return f"osd.{number}"


def _new_key() -> str:
    """A cephx secret: type, time of making, length, bytes."""
    head = struct.pack("<hiih", 1, int(time.time()), 0, 16)
    return base64.b64encode(head + secrets.token_bytes(16)).decode()


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    cluster = CephCluster(folder)
    begun = time.monotonic()
    try:
        cluster.start()
        print(f"up after {time.monotonic() - begun:.1f} s: {cluster.conf}", flush=True)
        with suppress(KeyboardInterrupt):
            sys.stdin.readline()
    finally:
        cluster.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
