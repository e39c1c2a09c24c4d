"""The Incus substrate: networks, address ledger, images and containers through the REST API.

Everything made here carries `user.objectstore.*` keys. The ledger of reserved addresses is the
network's `user.objectstore.address.A.B.C.D` keys, `OWNER PURPOSE` each, changed only under a lock
and the network's ETag, so that two stores on one existing network cannot take the same address.

Node containers are unprivileged. Their static address comes from the boot script, not from DHCP.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from objectstore_infra.errors import (
    ChangedMeanwhileError,
    ConflictError,
    NotFoundError,
    SubstrateError,
)
from objectstore_infra.substrates.base import (
    InstanceSpec,
    InstanceState,
    NetworkSpec,
    NetworkState,
)
from objectstore_infra.substrates.incus_client import DEFAULT_SOCKET, IncusClient

KEY_OWNER = "user.objectstore.owner"
KEY_COMPLETE = "user.objectstore.complete"
KEY_BOOT_DIGEST = "user.objectstore.boot_digest"
KEY_CORES = "user.objectstore.cores_per_socket"
KEY_ADDRESS = "user.objectstore.address."
IMAGE_HOLDER = "objectstore.holder."
MAC_PREFIX = "10:66:6a"
BOOT_SCRIPT = "/etc/objectstore/boot.sh"
BOOT_SCRIPT_HEADERS = {
    "X-Incus-type": "file",
    "X-Incus-mode": "0600",
    "X-Incus-uid": "0",
    "X-Incus-gid": "0",
}
GUARDED_UPDATES_MAX = 30
STOP_TIMEOUT_S = 30
UPLOAD_CHUNK_BYTES = 1 << 20
_MEMORY_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MEMORY_UNITS |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class IncusSubstrate:
    """Implements `base.Substrate` on one Incus daemon."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, storage_pool: str = "default") -> None:
        self._client = IncusClient(socket_path)
        self._pool = storage_pool

    # Networks ------------------------------------------------------------------------------

    def read_network(self, name: str) -> NetworkState | None:
        """Return the network, or None when there is none of that name."""
        try:
            config = self._client.get(f"/networks/{name}").metadata["config"]
        except NotFoundError:
            return None
        interface = IPv4Interface(config.get("ipv4.address", "0.0.0.0/32"))
        return NetworkState(
            name=name,
            owner=config.get(KEY_OWNER, ""),
            gateway=str(interface.ip),
            prefix_length=interface.network.prefixlen,
            dhcp_range=_dhcp_range(config),
        )

    def apply_network(self, spec: NetworkSpec) -> None:
        """Create the network, or bring one of the same owner to the specification."""
        config = {
            "ipv4.address": f"{spec.gateway}/{spec.prefix_length}",
            "ipv4.nat": "true",
            "ipv6.address": "none",
            "ipv4.dhcp": "true" if spec.dhcp_range else "false",
            "ipv4.dhcp.ranges": spec.dhcp_range,
            KEY_OWNER: spec.owner,
        }
        config = {key: value for key, value in config.items() if value}
        state = self.read_network(spec.name)
        if state is None:
            self._refuse_overlap(spec)
            self._client.post(
                "/networks",
                {
                    "name": spec.name,
                    "type": "bridge",
                    "description": f"object store {spec.owner}",
                    "config": config,
                },
            )
            return
        self._owned(f"network {spec.name}", state.owner, spec.owner)

        def change(current: dict[str, str]) -> dict[str, str]:
            kept = {k: v for k, v in current.items() if k != "ipv4.dhcp.ranges"}
            return {**kept, **config}

        self._update_network(spec.name, change)

    def _refuse_overlap(self, spec: NetworkSpec) -> None:
        wanted = IPv4Interface(f"{spec.gateway}/{spec.prefix_length}").network
        for other in self._client.get("/networks", recursion="1").metadata:
            addresses = [other["config"].get("ipv4.address", "")]
            if not other["managed"]:
                state = self._client.get(f"/networks/{other['name']}/state").metadata
                addresses = [f"{a['address']}/{a['netmask']}" for a in state["addresses"] or ()]
            for address in addresses:
                if "." in address and wanted.overlaps(IPv4Interface(address).network):
                    raise ConflictError(
                        f"subnet {wanted} overlaps with {address} of the network or interface "
                        f"{other['name']}",
                        hint="choose another network.subnet in the stack's configuration",
                    )

    def delete_network(self, name: str, owner: str) -> None:
        """Delete the owner's network; one that is gone is fine."""
        state = self.read_network(name)
        if state is None:
            return
        self._owned(f"network {name}", state.owner, owner)
        self._client.delete(f"/networks/{name}")

    def _update_network(
        self, name: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> None:
        for _ in range(GUARDED_UPDATES_MAX):
            with self._exclusive():
                answer = self._client.get(f"/networks/{name}")
                before = answer.metadata["config"]
                after = change(dict(before))
                if after == before:
                    return
                body = {"config": after, "description": answer.metadata["description"]}
                try:
                    self._client.put(f"/networks/{name}", body, etag=answer.etag)
                except ChangedMeanwhileError:
                    continue
                return
        raise SubstrateError(
            f"network {name} was changed by others at each of {GUARDED_UPDATES_MAX} attempts"
        )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other stores of this machine from updating the same daemon's records meanwhile.

        Incus compares the ETag before it takes its own lock, so that of two updates at the same
        moment both pass the comparison and one is lost (seen with 6.0).
        """
        name = hashlib.sha256(self._client.socket_path.encode()).hexdigest()[:12]
        lock = Path(tempfile.gettempdir()) / f"objectstore-incus-{name}-{os.getuid()}.lock"
        with lock.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    # Address ledger ------------------------------------------------------------------------

    def reservations(self, network: str) -> Mapping[str, str]:
        """Return address → `OWNER PURPOSE` for all reserved addresses of the network."""
        config = self._client.get(f"/networks/{network}").metadata["config"]
        return {
            key.removeprefix(KEY_ADDRESS): value
            for key, value in config.items()
            if key.startswith(KEY_ADDRESS)
        }

    def reserve(self, network: str, owner: str, purposes: Mapping[str, str]) -> None:
        """Make the owner's entries exactly address → purpose; all or nothing."""
        leases = self._client.get(f"/networks/{network}/leases").metadata or []
        held = {
            lease["address"]: f"held by {lease['hostname'] or lease['hwaddr']}" for lease in leases
        }

        def change(config: dict[str, str]) -> dict[str, str]:
            in_pool = _inside_dhcp(config, purposes)
            foreign = {
                key.removeprefix(KEY_ADDRESS): f"reserved by {value}"
                for key, value in config.items()
                if key.startswith(KEY_ADDRESS) and not _is_owned(value, owner)
            }
            taken = [
                f"{address} ({why})"
                for address in purposes
                if (why := foreign.get(address) or held.get(address) or in_pool.get(address))
            ]
            if taken:
                raise ConflictError(
                    f"addresses of network {network} are taken: {', '.join(taken)}",
                    hint="choose other addresses in the stack's configuration",
                )
            kept = {
                key: value
                for key, value in config.items()
                if not (key.startswith(KEY_ADDRESS) and _is_owned(value, owner))
            }
            entries = {f"{KEY_ADDRESS}{ip}": f"{owner} {why}" for ip, why in purposes.items()}
            return kept | entries

        self._update_network(network, change)

    def release(self, network: str, owner: str) -> None:
        """Drop all of the owner's entries; a network that is gone is fine."""

        def change(config: dict[str, str]) -> dict[str, str]:
            return {
                key: value
                for key, value in config.items()
                if not (key.startswith(KEY_ADDRESS) and _is_owned(value, owner))
            }

        if self._client.exists(f"/networks/{network}"):
            self._update_network(network, change)

    # Images --------------------------------------------------------------------------------

    def find_image(self, alias: str) -> bool:
        """Say whether the image is there."""
        return self._client.exists(f"/images/aliases/{alias}")

    def add_image(self, alias: str, files: Sequence[Path]) -> None:
        """Import metadata and root file system under an alias."""
        metadata, rootfs = files
        boundary = secrets.token_hex(16)
        parts = [("metadata", metadata), ("rootfs", rootfs)]
        length = _multipart_length(boundary, parts)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
        }
        try:
            self._client.upload("/images", _multipart(boundary, parts), headers)
        except ConflictError:
            # An interrupted import got as far as the image but not as far as its alias.
            if not self._client.exists(f"/images/{_fingerprint_of(files)}"):
                raise
        alias_body = {"name": alias, "target": _fingerprint_of(files)}
        self._client.post("/images/aliases", alias_body)

    def hold_image(self, alias: str, owner: str) -> None:
        """Record that the owner uses the image."""
        self._update_image(alias, lambda holders: holders | {owner})

    def drop_image(self, alias: str, owner: str) -> None:
        """Drop the owner's hold; delete the image when nobody holds it any more."""
        if self.find_image(alias):
            self._update_image(alias, lambda holders: holders - {owner})

    def _fingerprint(self, alias: str) -> str:
        return str(self._client.get(f"/images/aliases/{alias}").metadata["target"])

    def _update_image(self, alias: str, change: Callable[[set[str]], set[str]]) -> None:
        """Change the set of holders; an image that nobody holds goes."""
        path = f"/images/{self._fingerprint(alias)}"
        with self._exclusive():
            answer = self._client.get(path)
            properties = dict(answer.metadata["properties"])
            before = {
                key.removeprefix(IMAGE_HOLDER) for key in properties if key.startswith(IMAGE_HOLDER)
            }
            after = change(set(before))
            if not after:
                self._client.delete(path)
            elif after != before:
                others = {k: v for k, v in properties.items() if not k.startswith(IMAGE_HOLDER)}
                holds = {f"{IMAGE_HOLDER}{owner}": "yes" for owner in after}
                fields = ("auto_update", "public", "expires_at", "profiles")
                body = {field: answer.metadata[field] for field in fields}
                self._client.put(path, {**body, "properties": others | holds}, etag=answer.etag)

    # Instances -----------------------------------------------------------------------------

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
                    hint="bring the stack's state back, or delete the machine and its data with "
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
                f"instance {name} is gone", hint="`make refresh`, then `make up`, makes it anew"
            )
        self._owned(f"instance {name}", state.owner, owner)
        return state

    @staticmethod
    def _owned(subject: str, actual: str, wanted: str) -> None:
        if actual != wanted:
            raise ConflictError(
                f"{subject} exists and belongs to {actual or 'nobody we know'}, not to {wanted}",
                hint="choose another store name, or remove it if it is a left-over",
            )


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


def _is_owned(entry: str, owner: str) -> bool:
    return entry.split(" ", 1)[0] == owner


def _dhcp_range(config: Mapping[str, str]) -> str:
    return config.get("ipv4.dhcp.ranges", "") if config.get("ipv4.dhcp", "true") == "true" else ""


def _inside_dhcp(config: Mapping[str, str], addresses: Iterable[str]) -> dict[str, str]:
    """Return those addresses that the network's DHCP server could hand to somebody, with why."""
    if config.get("ipv4.dhcp", "true") != "true":
        return {}
    pools = [pool.strip() for pool in config.get("ipv4.dhcp.ranges", "").split(",") if pool.strip()]
    if not pools:
        return dict.fromkeys(addresses, "the DHCP pool is the whole subnet")
    bounds = [(IPv4Address(p.split("-")[0]), IPv4Address(p.split("-")[-1])) for p in pools]
    return {
        address: f"inside the DHCP pool {first}-{last}"
        for address in addresses
        for first, last in bounds
        if first <= IPv4Address(address) <= last
    }


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


def _fingerprint_of(files: Sequence[Path]) -> str:
    """Return what Incus calls an image made of these files."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while block := source.read(UPLOAD_CHUNK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _part_head(boundary: str, name: str, file: Path) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def _multipart_length(boundary: str, parts: Sequence[tuple[str, Path]]) -> int:
    heads = sum(len(_part_head(boundary, *part)) + part[1].stat().st_size + 2 for part in parts)
    return heads + len(f"--{boundary}--\r\n")


def _multipart(boundary: str, parts: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    for name, file in parts:
        yield _part_head(boundary, name, file)
        with file.open("rb") as source:
            while block := source.read(UPLOAD_CHUNK_BYTES):
                yield block
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
