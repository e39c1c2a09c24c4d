"""Ansible module: what this node is, what runs on it and how well.

One look per node instead of a dozen tasks. It changes nothing and judges nothing: prechecks, the
health check and the upgrade each draw their own conclusions from the same facts. Standard library
only, since it runs with the node's own Python.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: store_node
short_description: What a node is and what runs on it
description:
  - Gathers what the playbooks of an object store ask about a node. Changes nothing.
options:
  paths:
    description: Folders whose free space is wanted; the nearest existing parent is measured.
    type: list
    elements: path
    default: []
  units:
    description: systemd units whose state is wanted.
    type: list
    elements: str
    default: []
  envoy_admin:
    description: Unix socket of Envoy's administration, whose view of the nodes is wanted.
    type: path
    default: ""
  asked:
    description: The operator's time when this was asked for, UTC; returned beside the node's own.
    type: str
    default: ""
"""

HTTP_TIMEOUT_S = 12
UNLIMITED = 1 << 60


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=HTTP_TIMEOUT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "envoy_admin": {"type": "path", "default": ""},
            "asked": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    admin = params["envoy_admin"]
    module.exit_json(
        changed=False,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        os=os_release(),
        machine=platform.machine(),
        cpus=os.cpu_count(),
        asked=params["asked"],
        clock=time.time(),
        memory_bytes=memory_bytes(),
        free_bytes={path: free_bytes(path) for path in params["paths"]},
        addresses=addresses(),
        listening=listening(),
        units={unit: unit_state(unit) for unit in params["units"]},
        backends=backends(admin) if admin else {},
    )


def os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key.lower(): value.strip('"') for key, value in pairs if key in ("ID", "VERSION_ID")}


def memory_bytes() -> int:
    """What this node may use: the machine's memory or its control group's limit, if lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [total]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limit for limit in limits if 0 < limit < UNLIMITED)


def free_bytes(path: str) -> int:
    existing = next(p for p in (Path(path), *Path(path).parents) if p.exists())
    return shutil.disk_usage(existing).free


def addresses() -> list[str]:
    """The IPv4 addresses of this node's interfaces."""
    done = subprocess.run(
        ["ip", "-json", "-4", "address", "show"], capture_output=True, text=True, check=False
    )
    links = json.loads(done.stdout or "[]")
    return sorted(info["local"] for link in links for info in link.get("addr_info", []))


def listening() -> list[dict]:
    """Every TCP socket that listens, from the kernel's tables."""
    found = []
    for file, size in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 16)):
        with contextlib.suppress(OSError):
            for line in Path(file).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    host, port = fields[1].split(":")
                    found.append({"address": decoded(host, size), "port": int(port, 16)})
    return sorted(found, key=lambda item: (item["port"], item["address"]))


def decoded(text: str, size: int) -> str:
    """The kernel writes addresses as 32-bit words in the machine's byte order."""
    words = struct.unpack(f">{size // 4}I", bytes.fromhex(text))
    return str(ip_address(struct.pack(f"={size // 4}I", *words)))


def unit_state(unit: str) -> str:
    done = subprocess.run(
        ["systemctl", "show", "--property=LoadState,ActiveState,SubState", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    state = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if state.get("LoadState") != "loaded":
        return "absent"
    return f"{state.get('ActiveState', '?')} ({state.get('SubState', '?')})"


def backends(admin: str) -> dict[str, dict]:
    """How Envoy sees each node: address, flags that keep it out, and requests in flight."""
    connection = UnixConnection(admin)
    try:
        connection.request("GET", "/clusters?format=json")
        clusters = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"error": {"flags": [f"{type(error).__name__}: {error}"]}}
    finally:
        connection.close()
    found = {}
    for cluster in clusters.get("cluster_statuses", []):
        for host in cluster.get("host_statuses", []):
            stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", [])}
            status = host.get("health_status", {})
            eds = status.get("eds_health_status", "HEALTHY")
            flags = sorted(key for key, value in status.items() if value is True)
            found[host["address"]["socket_address"]["address"]] = {
                "flags": flags if eds == "HEALTHY" else [*flags, eds.lower()],
                "requests_active": stats.get("rq_active", 0),
            }
    return found


if __name__ == "__main__":
    main()
