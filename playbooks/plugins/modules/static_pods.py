"""Ansible module: the control plane of one node, which its kubelet runs from files.

A static pod is restarted by a mark in its file: the kubelet takes a changed file for another pod,
and what it reports to the API shows when the new one runs. It is stopped by moving its file away.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kubernetes import ETC, MANIFESTS, CommandError, kubectl

DOCUMENTATION = """
module: static_pods
short_description: The control plane of one node
description:
  - Restarts, stops or starts API server, controllers, scheduler and etcd of a node.
options:
  state:
    description:
      - C(restarted) returns when those that were started before O(than) changed run anew.
      - C(stopped) returns when API server and etcd no longer listen.
      - C(started) returns when they listen again.
    type: str
    choices: [restarted, stopped, started]
    required: true
  name:
    description: Name of the node, for O(state=restarted).
    type: str
    default: ""
  than:
    description: The file that they read at their start, for O(state=restarted).
    type: path
    default: /etc/kubernetes/pki/apiserver.crt
  timeout_s:
    description: How long to wait.
    type: int
    default: 180
"""

ANNOTATION = "objectstore.internal/restarted"
STOPPED = ETC / "manifests.stopped"
PORTS = (2379, 6443)
POLL_S = 1.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["restarted", "stopped", "started"],
                "required": True,
            },
            "name": {"type": "str", "default": ""},
            "than": {"type": "path", "default": str(ETC / "pki" / "apiserver.crt")},
            "timeout_s": {"type": "int", "default": 180},
        },
        required_if=[("state", "restarted", ["name"])],
        supports_check_mode=True,
    )
    params, check_mode = module.params, module.check_mode
    deadline = time.monotonic() + params["timeout_s"]
    try:
        if params["state"] == "restarted":
            result = restarted(
                params["name"], Path(params["than"]), deadline, check_mode=check_mode
            )
        elif params["state"] == "stopped":
            result = moved(MANIFESTS, STOPPED, deadline, listening=False, check_mode=check_mode)
        else:
            result = moved(STOPPED, MANIFESTS, deadline, listening=True, check_mode=check_mode)
    except (CommandError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def restarted(name: str, than: Path, deadline: float, *, check_mode: bool) -> dict[str, Any]:
    files = older(MANIFESTS, than)
    if not check_mode:
        mark = str(than.stat().st_mtime_ns)
        for file in files:
            replaced(file, marked(file.read_text(), mark))
        wait(lambda: not_yet(name, mark, [file.stem for file in files]), deadline)
    return {"changed": bool(files), "restarted": [file.stem for file in files]}


def older(folder: Path, than: Path) -> list[Path]:
    """The manifests that were written before the file: their pods have read an earlier one."""
    time_ns = than.stat().st_mtime_ns
    return [file for file in sorted(folder.glob("*.yaml")) if file.stat().st_mtime_ns < time_ns]


def marked(manifest: str, mark: str) -> str:
    """The manifest with the mark among its annotations, in the place of an earlier one."""
    line = f'    {ANNOTATION}: "{mark}"\n'
    without = re.sub(rf"^    {re.escape(ANNOTATION)}: .*\n", "", manifest, flags=re.MULTILINE)
    if "\n  annotations:\n" in without:
        return without.replace("\n  annotations:\n", f"\n  annotations:\n{line}", 1)
    return without.replace("\nmetadata:\n", f"\nmetadata:\n  annotations:\n{line}", 1)


def replaced(file: Path, content: str) -> None:
    """Write the file in one step; the kubelet does not look at names that begin with a dot."""
    incoming = file.with_name(f".{file.name}")
    incoming.touch(mode=0o600)
    incoming.write_text(content)
    os.replace(incoming, file)


def not_yet(name: str, mark: str, pods: list[str]) -> str:
    """The pods that do not run with the mark or are not ready; while the API is away, why."""
    path = ANNOTATION.replace(".", "\\.")
    shown = (
        f"jsonpath={{.metadata.annotations.{path}}} "
        '{.status.conditions[?(@.type=="Ready")].status}'
    )
    waiting = []
    for pod in pods:
        try:
            said = kubectl("-n", "kube-system", "get", "pod", f"{pod}-{name}", f"--output={shown}")
        except CommandError as error:
            return str(error)
        if said != f"{mark} True":
            waiting.append(pod)
    return f"not ready again: {', '.join(waiting)}" if waiting else ""


def moved(
    source: Path, target: Path, deadline: float, *, listening: bool, check_mode: bool
) -> dict[str, Any]:
    files = sorted(source.glob("*.yaml")) if source.exists() else []
    if not check_mode:
        target.mkdir(mode=0o700, exist_ok=True)
        for file in files:
            file.rename(target / file.name)
        wait(lambda: ports_otherwise(listening=listening), deadline)
    return {"changed": bool(files), "moved": [file.stem for file in files]}


def ports_otherwise(*, listening: bool) -> str:
    """The ports that listen and should not, or the other way round."""
    found = [str(port) for port in PORTS if is_open(port) != listening]
    what = "do not listen yet" if listening else "listen still"
    return f"ports {', '.join(found)} {what}" if found else ""


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(POLL_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(lacking: Callable[[], str], deadline: float) -> None:
    """Until `lacking` says nothing more. Raises CommandError with what it said last."""
    while said := lacking():
        if time.monotonic() > deadline:
            raise CommandError(said)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
