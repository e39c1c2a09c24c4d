"""Ansible module: what a node can say of itself, as one archive of text files without secrets.

Each file is what a command prints, bounded, with everything taken out that looks like a secret or
is one that the caller names. A command that fails leaves its error in its file: a node that is ill
says as much as it can. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: diagnostics
short_description: What a node can say of itself, without secrets
description:
  - Writes the output of commands, each as a file of one archive, readable by root alone.
options:
  path:
    description: The archive to write.
    type: path
    required: true
  lines:
    description: How many lines of the journal, and of the log of each pod, are kept.
    type: int
    default: 3000
  cluster:
    description: Whether the cluster is asked too, besides the node itself.
    type: bool
    default: false
  secrets:
    description: Values that must not be in the archive, besides what looks like a secret.
    type: list
    elements: str
    default: []
"""

CALL_TIMEOUT_S = 60
FILE_BYTES_MAX = 8 << 20
REMOVED = "[removed]"
# Anything shorter would take harmless words out of every text.
SECRET_LENGTH_MIN = 8
PATTERNS = (
    # Private keys, in one line or in several, or cut off by a log.
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
    ),
    # Keys of Ceph's users, and tokens of Kubernetes.
    re.compile(r"\bAQ[A-Za-z0-9+/]{36}=="),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)
# What follows the name of a secret, as in settings, headers, JSON and command lines.
NAMED = re.compile(
    r"(?i)((?:secret[_-]?(?:access[_-]?)?key|password|passphrase|token|authorization|signature"
    r"|client-key-data|session[_-]?token)[\"']?\s*[=:]\s*[\"']?)"
    r"(?:(?:bearer|aws4\S*)\s+)?[^\s\"',;}]+"
)
NODE_COMMANDS = {
    "journal.txt": "journalctl --no-pager --output=short-iso --lines={lines}",
    "kernel.txt": "journalctl --no-pager --dmesg --lines=500",
    "failed-units.txt": "systemctl --no-pager --failed",
    "units.txt": "systemctl --no-pager list-units --type=service --all",
    "addresses.txt": "ip address",
    "routes.txt": "ip route show table all",
    "neighbours.txt": "ip neighbour",
    "sockets.txt": "ss -lntup",
    "packet-filter.txt": "nft list ruleset",
    "space.txt": "df -h",
    "memory.txt": "free -m",
    "processes.txt": "ps -eo pid,ppid,user,stat,rss,etimes,comm --sort=-rss",
    "packages.txt": "dpkg-query -W",
    "kernel-settings.txt": "sysctl -a",
}
KUBECTL = "/usr/local/bin/kubectl --kubeconfig=/etc/kubernetes/admin.conf"
CLUSTER_COMMANDS = {
    "kubernetes/nodes.txt": f"{KUBECTL} describe nodes",
    "kubernetes/pods.txt": f"{KUBECTL} get pods --all-namespaces --output=wide",
    "kubernetes/described.txt": f"{KUBECTL} describe pods --namespace=objectstore",
    "kubernetes/workloads.txt": (
        f"{KUBECTL} get deployments,statefulsets,daemonsets,services,endpointslices,pvc,pv,pdb "
        "--all-namespaces --output=wide"
    ),
    "kubernetes/events.txt": f"{KUBECTL} get events --all-namespaces --sort-by=.lastTimestamp",
    "ceph/status.txt": "ceph --connect-timeout=10 status",
    "ceph/health.txt": "ceph --connect-timeout=10 health detail",
    "ceph/osds.txt": "ceph --connect-timeout=10 osd tree",
    "ceph/room.txt": "ceph --connect-timeout=10 df detail",
    "ceph/pools.txt": "ceph --connect-timeout=10 osd pool ls detail",
}
PODS = f"{KUBECTL} get pods --namespace=objectstore --output=name"
LOG = f"{KUBECTL} logs --namespace=objectstore --all-containers --tail={{lines}}"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "lines": {"type": "int", "default": 3000},
            "cluster": {"type": "bool", "default": False},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True, path=params["path"])
    commands = dict(NODE_COMMANDS)
    if params["cluster"]:
        commands |= CLUSTER_COMMANDS | pod_commands(printed(PODS.split()))
    files = {
        name: redacted(printed(command.format(lines=params["lines"]).split()), params["secrets"])
        for name, command in commands.items()
    }
    write(Path(params["path"]), files)
    module.exit_json(changed=True, path=params["path"], files=sorted(files))


def pod_commands(listed: str) -> dict[str, str]:
    """The log of each pod, and of its life before this one."""
    found = {}
    for line in listed.splitlines():
        kind, _, name = line.partition("/")
        if kind == "pod" and name:
            found[f"logs/{name}.txt"] = f"{LOG} {name}"
            found[f"logs/{name}.before.txt"] = f"{LOG} --previous {name}"
    return found


def printed(argv: list[str]) -> str:
    """What a command prints, its errors with it; the end of it where it is too long."""
    try:
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=CALL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}\n"
    return done.stdout[-FILE_BYTES_MAX:].decode("utf-8", "replace")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text without those values and without what looks like a secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_LENGTH_MIN:
            text = text.replace(secret, REMOVED)
    for pattern in PATTERNS:
        text = pattern.sub(REMOVED, text)
    return NAMED.sub(rf"\1{REMOVED}", text)


def write(path: Path, files: dict[str, str]) -> None:
    """The files as a compressed archive that root alone can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as target,
        tarfile.open(fileobj=target, mode="w:gz", compresslevel=6) as archive,
    ):
        for name, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
