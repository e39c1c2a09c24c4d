"""What the ceph_* modules share: talking to a cluster as its administrator, and its units.

Runs with the node's own Python and Debian's python3-rados. Commands go to the monitors through
librados: a `ceph` command would cost a second of processor time each.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.programs import runs_replaced

try:
    import rados

    RADOS_MISSING = False
except ImportError:
    RADOS_MISSING = True

CONF = "/etc/ceph/ceph.conf"
DATA = Path("/var/lib/ceph")
CONNECT_S_MAX = 5
COMMAND_S_MAX = 30
POLL_S = 0.25
REFRESH_S_MAX = 20
SECOND_LOOK_S = 1
CLEAN = "active+clean"


class CephError(Exception):
    """What could not be done or did not come to be, for the operator."""


class Admin:
    """A connection to the monitors as client.admin. `with` closes it."""

    def __init__(self, connect_s_max: int = CONNECT_S_MAX) -> None:
        """Raises CephError when no quorum answers in time."""
        if RADOS_MISSING:
            raise CephError("python3-rados is not installed on this node")
        try:
            self._rados = rados.Rados(conffile=CONF, name="client.admin")
            self._rados.connect(timeout=connect_s_max)
        except rados.Error as error:
            raise CephError(f"no quorum of monitors answers: {error}") from error

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self._rados.shutdown()

    def raw(self, prefix: str, content: bytes = b"", **arguments: Any) -> bytes:
        """Run a monitor's command; returns what it puts out. Raises CephError."""
        command = json.dumps({"prefix": prefix, **arguments})
        try:
            code, out, said = self._rados.mon_command(command, content, timeout=COMMAND_S_MAX)
        except rados.Error as error:
            raise CephError(f"{prefix}: {error}") from error
        if code:
            raise CephError(f"{prefix}: {said or os.strerror(-code)}")
        return bytes(out)

    def ask(self, prefix: str, **arguments: Any) -> Any:
        """Run a monitor's command; returns its JSON, None when it puts nothing out."""
        out = self.raw(prefix, format="json", **arguments)
        return json.loads(out) if out.strip() else None

    def ask_manager(self, prefix: str, **arguments: Any) -> Any:
        """Run a command of the manager; returns its JSON. Raises CephError."""
        command = json.dumps({"prefix": prefix, "format": "json", **arguments})
        return self._answer(prefix, lambda: self._rados.mgr_command(command, b"", COMMAND_S_MAX))

    def ask_osd(self, number: int, prefix: str) -> Any:
        """Run a command of an OSD; returns its JSON. Raises CephError."""
        command = json.dumps({"prefix": prefix, "format": "json"})
        what = f"{prefix} of osd.{number}"
        return self._answer(
            what, lambda: self._rados.osd_command(number, command, b"", COMMAND_S_MAX)
        )

    def _answer(self, what: str, command: Callable[[], tuple[int, bytes, str]]) -> Any:
        try:
            code, out, said = command()
        except rados.Error as error:
            raise CephError(f"{what}: {error}") from error
        if code:
            raise CephError(f"{what}: {said or os.strerror(-code)}")
        return json.loads(out) if out.strip() else None

    def refresh(self, limit_s: float = REFRESH_S_MAX) -> None:
        """Until what the monitors know of placement groups is as of now: OSDs tell it every few
        seconds, so that after a change all looks well for a while. Raises CephError.
        """
        running = [row["osd"] for row in self.ask("osd dump")["osds"] if row["up"]]
        told = {}
        for number in running:
            try:
                told[number] = self.ask_osd(number, "flush_pg_stats")
            except CephError:
                continue  # it went down this moment, which the map will say

        def late() -> str:
            known = {number: int(self.raw("osd last-stat-seq", id=number)) for number in told}
            return ", ".join(f"osd.{number}" for number in told if known[number] < told[number])

        wait(late, "what OSDs tell of their placement groups", limit_s)

    def unclean(self) -> str:
        """The placement groups by state when any is not active+clean, else nothing."""
        found = self.ask("status")["pgmap"]
        counts = {one["state_name"]: one["count"] for one in found.get("pgs_by_state", [])}
        if counts == {CLEAN: found["num_pgs"]}:
            return ""
        return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"

    def wait_clean(self, limit_s: float) -> None:
        """Until every placement group is active+clean, seen twice: an OSD may not have begun with
        the newest map when it is asked first. Raises CephError.
        """
        deadline = time.monotonic() + limit_s
        for pause_s in (0, SECOND_LOOK_S):
            time.sleep(pause_s)
            self.refresh()
            left_s = max(deadline - time.monotonic(), 0)
            wait(self.unclean, f"all placement groups {CLEAN}", left_s)


def wait(lacking: Callable[[], str], what: str, limit_s: float) -> None:
    """Until `lacking` answers nothing; the error says what it answered last. Raises CephError."""
    deadline = time.monotonic() + limit_s
    while said := lacking():
        if time.monotonic() > deadline:
            raise CephError(f"waited {limit_s:.0f} s for {what}, there is: {said}")
        time.sleep(POLL_S)


def run(*argv: str) -> str:
    """Run a command of the node; returns what it prints. Raises CephError with its last words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise CephError(f"{' '.join(argv[:3])}…: {done.returncode}: {' | '.join(said)}")
    return done.stdout


class Unit:
    """A systemd unit of one daemon."""

    def __init__(self, kind: str, name: str) -> None:
        self.name = f"ceph-{kind}@{name}.service"

    def state(self) -> str:
        """`running`, or how it is."""
        shown = run("systemctl", "show", "--property=ActiveState,UnitFileState", self.name)
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        if found.get("ActiveState") != "active":
            return found.get("ActiveState", "unknown")
        return "running" if found.get("UnitFileState") == "enabled" else "not enabled"

    def started(self) -> int:
        """When it was started last, seconds since the epoch; 0 when it does not run."""
        shown = run(
            "systemctl", "show", "--timestamp=unix", "--property=ActiveEnterTimestamp", self.name
        )
        value = shown.strip().partition("=@")[2]
        return int(value) if value and self.state() == "running" else 0

    def start(self) -> None:
        """Enabled, so that it comes back after a boot, and running."""
        run("systemctl", "enable", "--quiet", "--now", self.name)

    def restart(self) -> None:
        run("systemctl", "restart", self.name)

    def stop(self) -> None:
        """Stopped and no longer started at boot."""
        run("systemctl", "disable", "--quiet", "--now", self.name)


def daemons_here() -> list[tuple[str, str]]:
    """Kind and name of the daemons that were made on this node, in the order of restarts."""
    return [
        (kind, path.name.removeprefix("ceph-"))
        for kind in ("mon", "mgr", "osd")
        for path in sorted((DATA / kind).glob("ceph-*"))
        if (path / ("ready" if kind == "osd" else "keyring")).is_file()
    ]


def outdated(settings: Path = Path(CONF)) -> list[tuple[str, str]]:
    """Those that run with settings of before the file was written, or programs of before a new
    package was installed.
    """
    written = int(settings.stat().st_mtime) if settings.is_file() else 0
    units = {daemon: Unit(*daemon) for daemon in daemons_here()}
    return [
        daemon
        for daemon, unit in units.items()
        if 0 < unit.started() < written or runs_replaced(unit.name)
    ]


def keyring(entries: dict[str, tuple[str, dict[str, str]]]) -> str:
    """The text of a keyring: name → (key, capabilities)."""
    lines = []
    for name, (key, caps) in entries.items():
        lines += [f"[{name}]", f"\tkey = {key}"]
        lines += [f'\tcaps {kind} = "{cap}"' for kind, cap in sorted(caps.items())]
    return "\n".join(lines) + "\n"


def own(path: Path) -> None:
    """Give a file or folder to Ceph's user."""
    user = pwd.getpwnam("ceph")
    os.chown(path, user.pw_uid, user.pw_gid)


def make_folder(path: Path) -> None:
    """A daemon's own folder, which only Ceph's user may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    own(path)


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; only Ceph's user reads it."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    own(Path(file.name))
    os.replace(file.name, path)
