"""Make this machine able to carry a deployment: `python -m objectstore_infra.host`.

Installs Incus and the image builder with apt, starts the Incus daemon where no systemd does, and
makes a storage pool if there is none. It says what it will do before it does it, does only what
is missing, and takes a fraction of a second when nothing is. Standard library only.

Debian 12 has no Incus of its own: it comes from bookworm-backports, fetched from the mirror this
machine already uses. Incus 7 dropped cgroup v1, so 6.0 is what both Debian 12 and 13 get.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from objectstore_infra.apt_sources import Source, mirror_of, read_sources
from objectstore_infra.errors import HostError, InfraError, SubstrateUnreachableError
from objectstore_infra.substrates.incus_client import DEFAULT_SOCKET, IncusClient

PACKAGES = (
    "attr",
    "debian-archive-keyring",
    "dnsmasq-base",
    "incus-base",
    "iproute2",
    "mmdebstrap",
    "nftables",
    "openssh-client",
    "squashfs-tools",
    "uidmap",
    "xz-utils",
)
SUITES = {"12": "bookworm", "13": "trixie"}
BACKPORTS_FILE = Path("/etc/apt/sources.list.d/objectstore-backports.sources")
DAEMON = Path("/usr/libexec/incus/incusd")
DAEMON_LOG = Path("/var/log/incus/incusd.log")
DAEMON_PID = Path("/run/objectstore-incusd.pid")
SUBID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
# Where the kernel has bridged packets pass the host's packet filter, Incus' translation of
# addresses that leave the bridge's network also hits packets from a VM to another VM's pods.
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
BRIDGE_FILTER_BEFORE = Path("/run/objectstore-bridge-filter")
# Envoy, kubelets and systemd of all machines watch files, and containers share the host's limit.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_BEFORE = Path("/run/objectstore-inotify-instances")
INOTIFY_MIN = 1024
SUBID_RANGE = "root:1000000:1000000000"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
INSTEAD = "`make serve` works everywhere: the same store on this machine alone, without VMs"


@dataclass(frozen=True, slots=True)
class Step:
    """Something missing on this machine, and how to supply it."""

    what: str
    about_s: int
    act: Callable[[], None]


def debian_release(os_release: str) -> str:
    """Return '12' or '13' from the text of /etc/os-release. Raises HostError."""
    fields = dict(
        line.split("=", 1) for line in os_release.splitlines() if "=" in line and line[0] != "#"
    )
    name = fields.get("ID", "unknown").strip('"')
    version = fields.get("VERSION_ID", "").strip('"')
    if name != "debian" or version not in SUITES:
        raise HostError(
            f"a deployment needs Debian 12 or 13, this is {name} {version}".rstrip(), hint=INSTEAD
        )
    return version


def check_platform() -> str:
    """Return the Debian release, or refuse with the reason. Raises HostError."""
    if platform.system() != "Linux":
        raise HostError(
            f"a deployment needs Linux (Debian 12 or 13), this is {platform.system()}", hint=INSTEAD
        )
    try:
        release = debian_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise HostError("this Linux has no /etc/os-release; Debian 12 or 13 is needed") from cause
    if os.geteuid() != 0:
        raise HostError(
            "installing and starting Incus needs root, this is user id "
            f"{os.geteuid()}; run the command again with sudo",
            hint=INSTEAD,
        )
    return release


def backports_stanza(sources: list[Source], suite: str) -> str:
    """Return a deb822 stanza for SUITE-backports on the mirror that carries SUITE.

    Raises HostError when no source does.
    """
    source = mirror_of(sources, suite)
    if source is None:
        raise HostError(
            f"no apt source of this machine carries the suite {suite}, so the mirror to take "
            f"{suite}-backports from is unknown",
            hint=f"add a source for {suite} and {suite}-backports below /etc/apt, then run again",
        )
    lines = ["Types: deb", f"URIs: {source.uri}", f"Suites: {suite}-backports", "Components: main"]
    if source.signed_by:
        lines.append(f"Signed-By: {source.signed_by}")
    return "\n".join(lines) + "\n"


def missing_packages() -> list[str]:
    """Return those of PACKAGES that are not installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (line.split() for line in query.stdout.splitlines())
    installed = {package for package, status in lines if status == "installed"}
    return [name for name in PACKAGES if name not in installed]


def _run(command: list[str], failure: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "INCUS_DOCUMENTATION": ""}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n    ".join(done.stdout.strip().splitlines()[-12:])
        raise HostError(
            f"{failure}: `{' '.join(command)}` ended with {done.returncode}:\n    {tail}"
        )


def install(release: str, packages: list[str]) -> None:
    """Install the packages; on Debian 12 Incus and its parts come from backports."""
    suite = SUITES[release]
    options = []
    if release == "12":
        sources = read_sources()
        if mirror_of(sources, f"{suite}-backports") is None:
            BACKPORTS_FILE.write_text(backports_stanza(sources, suite), encoding="utf-8")
        options = ["--target-release", f"{suite}-backports"]
    _run(["apt-get", "update", "-q"], "the package lists could not be fetched")
    wanted = [name for name in packages if name == "incus-base"]
    others = [name for name in packages if name != "incus-base"]
    install_command = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]
    if others:
        _run([*install_command, *others], "packages could not be installed")
    if wanted:
        # The package would start the daemon; on a machine without systemd that fails harmlessly.
        _run([*install_command, *options, *wanted], "Incus could not be installed")


def daemon_answers(client: IncusClient) -> bool:
    """Say whether Incus answers."""
    try:
        client.get("")
    except SubstrateUnreachableError:
        return False
    return True


def start_daemon(client: IncusClient) -> None:
    """Start Incus through systemd where it runs, else as a process of its own."""
    if Path("/run/systemd/system").is_dir():
        _run(["systemctl", "start", "incus.service"], "Incus could not be started")
    else:
        for folder in (DAEMON_LOG.parent, Path(DEFAULT_SOCKET).parent):
            folder.mkdir(parents=True, exist_ok=True)
        daemon = subprocess.Popen(
            [DAEMON, "--group", "incus-admin", "--logfile", DAEMON_LOG],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "INCUS_DOCUMENTATION": ""},
            start_new_session=True,
        )
        DAEMON_PID.write_text(f"{daemon.pid}\n", encoding="ascii")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not daemon_answers(client):
        if time.monotonic() > deadline:
            raise HostError(
                f"Incus does not answer at {client.socket_path} after {START_TIMEOUT_S} s",
                hint=f"its log is {DAEMON_LOG}",
            )
        time.sleep(0.1)


def ensure_subids() -> None:
    """Give root a range of subordinate ids, which unprivileged containers are mapped to."""
    for file in SUBID_FILES:
        text = file.read_text(encoding="ascii") if file.exists() else ""
        file.write_text(text.rstrip("\n") + ("\n" if text else "") + SUBID_RANGE + "\n", "ascii")


def missing_subids() -> bool:
    """Say whether root lacks subordinate ids in one of the two files."""
    return not all(
        file.exists() and re.search(r"^root:", file.read_text(encoding="ascii"), re.MULTILINE)
        for file in SUBID_FILES
    )


def ensure_pool(client: IncusClient) -> None:
    """Make a storage pool in a plain directory if there is none at all."""
    if not client.get("/storage-pools").metadata:
        client.post("/storage-pools", {"name": "default", "driver": "dir", "config": {}})


def bridge_filtered() -> bool:
    """Say whether packets between VMs of one bridge pass the host's packet filter."""
    return BRIDGE_FILTER.exists() and BRIDGE_FILTER.read_text(encoding="ascii").strip() != "0"


def leave_bridges_alone() -> None:
    """Have bridged packets go as they are, until `stop` or a reboot."""
    BRIDGE_FILTER_BEFORE.write_text(BRIDGE_FILTER.read_text(encoding="ascii"), encoding="ascii")
    BRIDGE_FILTER.write_text("0\n", encoding="ascii")


def inotify_short() -> bool:
    """Say whether the machines of a store, or two, could use up what may watch files."""
    return int(INOTIFY.read_text(encoding="ascii")) < INOTIFY_MIN


def allow_inotify() -> None:
    """Have enough processes watch files, until `stop` or a reboot."""
    INOTIFY_BEFORE.write_text(INOTIFY.read_text(encoding="ascii"), encoding="ascii")
    INOTIFY.write_text(f"{INOTIFY_MIN}\n", encoding="ascii")


def plan(release: str, client: IncusClient) -> list[Step]:
    """Return what is missing, in the order to supply it."""
    steps = []
    packages = missing_packages()
    if packages:
        origin = " (Incus from bookworm-backports)" if release == "12" else ""
        steps.append(
            Step(
                f"install with apt{origin}: {' '.join(packages)}",
                30,
                lambda: install(release, packages),
            )
        )
    if missing_subids():
        steps.append(
            Step("give root subordinate ids in /etc/subuid and /etc/subgid", 1, ensure_subids)
        )
    if bridge_filtered():
        what = f"have packets between VMs of one bridge go as they are: {BRIDGE_FILTER.name} = 0"
        steps.append(Step(what, 1, leave_bridges_alone))
    if inotify_short():
        what = f"let more processes watch files: {INOTIFY.name} = {INOTIFY_MIN}"
        steps.append(Step(what, 1, allow_inotify))
    answers = "incus-base" not in packages and daemon_answers(client)
    if not answers:
        steps.append(Step("start the Incus daemon", 5, lambda: start_daemon(client)))
    if not answers or not client.get("/storage-pools").metadata:
        steps.append(Step("see that Incus has a storage pool", 1, lambda: ensure_pool(client)))
    return steps


def set_up(client: IncusClient, say: Callable[[str], None]) -> None:
    """Bring this machine to the state a deployment needs. Raises HostError."""
    release = check_platform()
    steps = plan(release, client)
    if not steps:
        say(f"host: Debian {release} with Incus is ready")
        return
    say(f"host: Debian {release}; to be done, about {sum(step.about_s for step in steps)} s:")
    for step in steps:
        say(f"  - {step.what}")
    for step in steps:
        began = time.monotonic()
        step.act()
        say(f"host: done in {time.monotonic() - began:.1f} s: {step.what.split(':')[0]}")


def stop(client: IncusClient, say: Callable[[str], None]) -> None:
    """Put back what `set_up` changed, once nobody has instances: the daemon, if it was started
    here, the packet filter for bridges and the limit of watches.
    """
    answers = daemon_answers(client)
    left = client.get("/instances").metadata if answers else []
    if left:
        names = ", ".join(path.rsplit("/", 1)[1] for path in left)
        say(f"host: Incus keeps running, it has instances: {names}")
        return
    if answers and DAEMON_PID.exists():
        _stop_daemon(say)
    for setting, before in ((BRIDGE_FILTER, BRIDGE_FILTER_BEFORE), (INOTIFY, INOTIFY_BEFORE)):
        if before.exists():
            setting.write_text(before.read_text(encoding="ascii"), encoding="ascii")
            before.unlink()


def _stop_daemon(say: Callable[[str], None]) -> None:
    pid = int(DAEMON_PID.read_text(encoding="ascii"))
    if not _runs(pid, DAEMON):
        DAEMON_PID.unlink()  # the daemon that answers is not the one we started
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise HostError(f"Incus (process {pid}) has not ended after {STOP_TIMEOUT_S} s")
        time.sleep(0.1)
    DAEMON_PID.unlink()
    say("host: the Incus daemon that `make up` had started is stopped")


def _runs(pid: int, program: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").resolve(strict=True) == program
    except FileNotFoundError:
        return False


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="objectstore_infra.host", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("setup", "stop"), default="setup")
    action = {"setup": set_up, "stop": stop}[parser.parse_args().action]
    try:
        action(IncusClient(), lambda line: print(line, flush=True))
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
