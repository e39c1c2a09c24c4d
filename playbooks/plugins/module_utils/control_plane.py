"""The control plane of a node, which its kubelet runs from files, in the place of an older one.

A kubelet that finds a file changed lets the new pod wait ten seconds and more after the old one has
ended (the `backOffPeriod` of its pod workers), and kubeadm changes one file after the other. A pod
whose file comes when nothing is left of the old one starts at once. So the files are set aside
together, and new ones are written when their pods are gone. Where the new API server does not
answer, and where a run was cut off in between, the old files come back. Standard library only,
since it runs with the node's own Python.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.kubernetes import ETC, MANIFESTS, CommandError, kubectl, until

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
ASIDE = ETC / "manifests.aside"
PODS = Path("/var/lib/kubelet/pods")
HERE = "--server=https://127.0.0.1:6443"
# The kubelet removes a pod's folder a moment before it is done with the pod.
SETTLE_S = 1.0


def replaced(write: Callable[[], object], timeout_s: float) -> None:
    """Let `write` write the files anew, and return when the new API server answers. Raises:
    CommandError: it does not, and the files of before are back.
    """
    ASIDE.mkdir(mode=0o700, exist_ok=True)
    for component in COMPONENTS:
        os.replace(MANIFESTS / f"{component}.yaml", ASIDE / f"{component}.yaml")
    try:
        until(still_there, timeout_s)
        time.sleep(SETTLE_S)
        write()
        until(not_answering, timeout_s)
    except CommandError:
        for file in ASIDE.iterdir():
            os.replace(file, MANIFESTS / file.name)
        raise
    put_back()


def put_back() -> list[str]:
    """Put files back that were set aside and have no newer one in their place; returns which."""
    files = sorted(ASIDE.glob("*.yaml")) if ASIDE.exists() else []
    missing = [file for file in files if not (MANIFESTS / file.name).exists()]
    for file in files:
        if file in missing:
            os.replace(file, MANIFESTS / file.name)
        else:
            file.unlink()
    return [file.stem for file in missing]


def still_there() -> str:
    """The components of which the kubelet still has a pod."""
    found = [name for name in COMPONENTS if any(PODS.glob(f"*/containers/{name}"))]
    return f"still running: {', '.join(found)}" if found else ""


def not_answering() -> str:
    """Why the node's own API server is not ready."""
    try:
        kubectl(HERE, "get", "--raw=/readyz")
    except CommandError as error:
        return str(error)
    return ""
