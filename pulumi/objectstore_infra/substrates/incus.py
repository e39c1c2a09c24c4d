"""The Incus substrate: `base.Substrate` on one Incus daemon; here its instances.

Everything made carries `user.objectstore.*` keys. Its machines are system containers. Those that
run containers and Ceph themselves are privileged, because kubelet, runc and BlueStore set kernel
parameters, mount and make device nodes: root in them is root on the host, so this substrate is for
a host that serves the store alone. All others are unprivileged. Their static address comes from
the boot script, not from DHCP.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from objectstore_infra.errors import ConflictError, NotFoundError
from objectstore_infra.substrates.base import InstanceSpec, InstanceState
from objectstore_infra.substrates.incus_base import KEY_OWNER
from objectstore_infra.substrates.incus_image import IncusImages
from objectstore_infra.substrates.incus_network import IncusNetworks

KEY_COMPLETE = "user.objectstore.complete"
KEY_BOOT_DIGEST = "user.objectstore.boot_digest"
KEY_CORES = "user.objectstore.cores_per_socket"
MAC_PREFIX = "10:66:6a"
BOOT_SCRIPT = "/etc/objectstore/boot.sh"
BOOT_SCRIPT_HEADERS = {
    "X-Incus-type": "file",
    "X-Incus-mode": "0600",
    "X-Incus-uid": "0",
    "X-Incus-gid": "0",
}
STOP_TIMEOUT_S = 30
# What `security.privileged` leaves out: writable /proc, /sys and cgroups, every capability and
# device, no AppArmor. The shares keep etcd from starving when the host's processors are busy.
CONTAINER_HOST_LXC = """\
lxc.apparmor.profile=unconfined
lxc.cap.drop=
lxc.mount.auto=proc:rw sys:rw cgroup:rw
"""
CONTAINER_HOST_LXC_BY_CGROUP = {
    1: "lxc.cgroup.devices.allow=a\nlxc.cgroup.cpu.shares=8192\n",
    2: "lxc.cgroup2.devices.allow=a\nlxc.cgroup2.cpu.weight=800\n",
}
# Kubelet reads the kernel's messages for processes that were killed for want of memory.
CONTAINER_HOST_DEVICES = {
    "kmsg": {"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"},
}
CGROUP_2_MARK = Path("/sys/fs/cgroup/cgroup.controllers")
_MEMORY_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MEMORY_UNITS |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class IncusSubstrate(IncusNetworks, IncusImages):
    """Implements `base.Substrate` on one Incus daemon."""

    def read_instance(self, name: str) -> InstanceState | None:
        """Return the instance, or None."""
        try:
            instance = self._client.get(f"/instances/{name}").metadata
        except NotFoundError:
            return None
        config = instance["config"]
        return InstanceState(
            name=name,
            owner=config.get(KEY_OWNER, ""),
            network=instance["devices"].get("eth0", {}).get("network", ""),
            vcpu=_vcpu(config.get("limits.cpu", "")),
            cores_per_socket=int(config.get(KEY_CORES, "1")),
            memory_mib=_memory_mib(config.get("limits.memory", "")),
            running=instance["status"] == "Running",
            complete=config.get(KEY_COMPLETE) == "true",
            boot_digest=config.get(KEY_BOOT_DIGEST, ""),
        )

    def create_instance(self, spec: InstanceSpec) -> None:
        """Create and start; resumes the owner's interrupted create."""
        state = self.read_instance(spec.name)
        digest = boot_digest(spec.boot_script)
        if state is not None:
            self._owned(f"instance {spec.name}", state.owner, spec.owner)
            if state.complete and state.boot_digest != digest:
                raise ConflictError(
                    f"instance {spec.name} is a finished machine of {spec.owner} that this stack's "
                    "state does not know, and its keys are not ours",
                    hint="bring the stack's state back (`make restore BACKUP=FILE`), or delete the "
                    "machine and its data with "
                    f"`incus delete --force {spec.name}`",
                )
            if not state.complete:
                self.delete_instance(spec.name, spec.owner)
                state = None
        if state is None:
            self._create(spec, digest)
        else:
            self.resize_instance(
                spec.name,
                spec.owner,
                vcpu=spec.vcpu,
                cores_per_socket=spec.cores_per_socket,
                memory_mib=spec.memory_mib,
            )
        self.start_instance(spec.name, spec.owner)

    def _create(self, spec: InstanceSpec, digest: str) -> None:
        body = {
            "name": spec.name,
            "type": "container",
            "source": {"type": "image", "alias": spec.image},
            "profiles": [],
            "config": {
                "boot.autostart": "true",
                "limits.cpu": str(spec.vcpu),
                "limits.memory": f"{spec.memory_mib}MiB",
                # Where AppArmor confines containers, systemd may sandbox services only with it.
                "security.nesting": "true",
                **(container_host_config() if spec.container_host else {}),
                KEY_OWNER: spec.owner,
                KEY_CORES: str(spec.cores_per_socket),
                KEY_BOOT_DIGEST: digest,
            },
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": self._pool},
                "eth0": {
                    "type": "nic",
                    "name": "eth0",
                    "network": spec.network,
                    "hwaddr": hardware_address(spec.owner, spec.name),
                },
                **(CONTAINER_HOST_DEVICES if spec.container_host else {}),
            },
        }
        self._client.post("/instances", body)
        self._client.upload(
            f"/instances/{spec.name}/files",
            spec.boot_script.encode(),
            BOOT_SCRIPT_HEADERS,
            {"path": BOOT_SCRIPT},
        )

    def complete_instance(self, name: str) -> None:
        """Record that the instance answered, which ends its creation."""
        self._client.patch(f"/instances/{name}", {"config": {KEY_COMPLETE: "true"}})

    def resize_instance(
        self, name: str, owner: str, *, vcpu: int, cores_per_socket: int, memory_mib: int
    ) -> None:
        """Change vCPU and memory of a running instance."""
        self._require(name, owner)
        config = {
            "limits.cpu": str(vcpu),
            "limits.memory": f"{memory_mib}MiB",
            KEY_CORES: str(cores_per_socket),
        }
        self._client.patch(f"/instances/{name}", {"config": config})

    def start_instance(self, name: str, owner: str) -> None:
        """Start the instance if it is stopped."""
        if not self._require(name, owner).running:
            self._client.put(f"/instances/{name}/state", {"action": "start"})

    def delete_instance(self, name: str, owner: str) -> None:
        """Stop and delete; one that is gone is fine."""
        state = self.read_instance(name)
        if state is None:
            return
        self._owned(f"instance {name}", state.owner, owner)
        if state.running:
            stop = {"action": "stop", "timeout": STOP_TIMEOUT_S, "force": True}
            self._client.put(f"/instances/{name}/state", stop)
        self._client.delete(f"/instances/{name}")

    def _require(self, name: str, owner: str) -> InstanceState:
        state = self.read_instance(name)
        if state is None:
            raise NotFoundError(
                f"instance {name} is gone",
                hint="`make refresh`, then `make up`, makes it anew; its node joins again",
            )
        self._owned(f"instance {name}", state.owner, owner)
        return state


def container_host_config() -> dict[str, str]:
    """Return the settings of a container that runs containers and Ceph itself."""
    version = 2 if CGROUP_2_MARK.exists() else 1
    return {
        "security.privileged": "true",
        "raw.lxc": CONTAINER_HOST_LXC + CONTAINER_HOST_LXC_BY_CGROUP[version],
    }


def boot_digest(script: str) -> str:
    """Return the digest that tells whether an instance was made with this boot script."""
    return hashlib.sha256(script.encode()).hexdigest()


def hardware_address(owner: str, name: str) -> str:
    """Return the MAC address of a machine: always the same one.

    A machine made anew keeps its IP address; with another MAC address its neighbours would talk to
    the old one until their ARP entries expire, which takes half a minute.
    """
    digest = hashlib.sha256(f"{owner}/{name}".encode()).digest()
    return f"{MAC_PREFIX}:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def _vcpu(limit: str) -> int:
    """Number of CPUs that `limits.cpu` grants: a count, or a set such as `0-3,6`."""
    if not re.fullmatch(r"[0-9,-]+", limit):
        return 0
    if limit.isdigit():
        return int(limit)
    total = 0
    for part in limit.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def _memory_mib(limit: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", limit)
    if not found or found[2] not in _MEMORY_UNITS:
        return 0
    return int(found[1]) * _MEMORY_UNITS[found[2]] >> 20
