"""What the modules of the Kubernetes cluster share: its files on a node, and running its commands.

Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ETC = Path("/etc/kubernetes")
ADMIN = ETC / "admin.conf"
DEPLOYER = ETC / "deployer.conf"
MANIFESTS = ETC / "manifests"
ETCD_DATA = Path("/var/lib/etcd")
KUBEADM_TIMEOUT_S = 540
KUBECTL_TIMEOUT_S = 60
LINES_SHOWN = 12
POLL_S = 1.0


class CommandError(Exception):
    """A command failed; the message says which and what it printed last."""


def kubeadm(*argv: str) -> str:
    return run("/usr/local/bin/kubeadm", *argv, timeout_s=KUBEADM_TIMEOUT_S)


def kubectl(*argv: str, timeout_s: float = KUBECTL_TIMEOUT_S) -> str:
    return run("/usr/local/bin/kubectl", f"--kubeconfig={ADMIN}", *argv, timeout_s=timeout_s)


def run(*argv: str, timeout_s: float, check: bool = True) -> str:
    """Run a command and return what it prints, even if it failed unless `check`.

    Raises CommandError.
    """
    command = " ".join(part for part in argv[:4] if not part.startswith("--"))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{command} did not end within {timeout_s:.0f} s") from error
    if done.returncode and check:
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines()][-LINES_SHOWN:]
        raise CommandError(f"{command} ended with {done.returncode}: " + " | ".join(lines))
    return done.stdout


def until(lacking: Callable[[], str], timeout_s: float) -> None:
    """Wait until nothing lacks any more. Raises CommandError with what lacked last."""
    deadline = time.monotonic() + timeout_s
    while said := lacking():
        if time.monotonic() > deadline:
            raise CommandError(said)
        time.sleep(POLL_S)
