"""A substrate in memory, with the promises of `base.Substrate`: owners, ledger, idempotence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from objectstore_infra.errors import ConflictError, NotFoundError
from objectstore_infra.substrates.base import (
    InstanceSpec,
    InstanceState,
    NetworkSpec,
    NetworkState,
)


class MemorySubstrate:
    """Implements `base.Substrate`."""

    def __init__(self) -> None:
        self.networks: dict[str, NetworkState] = {}
        self.ledger: dict[str, dict[str, str]] = {}
        self.images: dict[str, set[str]] = {}
        self.instances: dict[str, InstanceState] = {}

    def read_network(self, name: str) -> NetworkState | None:
        return self.networks.get(name)

    def apply_network(self, spec: NetworkSpec) -> None:
        present = self.networks.get(spec.name)
        if present and present.owner != spec.owner:
            raise ConflictError(f"network {spec.name} belongs to {present.owner}")
        self.networks[spec.name] = NetworkState(
            spec.name, spec.owner, spec.gateway, spec.prefix_length, spec.dhcp_range
        )
        self.ledger.setdefault(spec.name, {})

    def delete_network(self, name: str, owner: str) -> None:
        self.networks.pop(name, None)
        self.ledger.pop(name, None)

    def reservations(self, network: str) -> Mapping[str, str]:
        return dict(self.ledger[network])

    def reserve(self, network: str, owner: str, purposes: Mapping[str, str]) -> None:
        self.release(network, owner)
        taken = [address for address in purposes if address in self.ledger[network]]
        if taken:
            raise ConflictError(f"taken: {taken}")
        self.ledger[network] |= {ip: f"{owner} {purpose}" for ip, purpose in purposes.items()}

    def release(self, network: str, owner: str) -> None:
        entries = self.ledger.get(network, {})
        for address in [ip for ip, entry in entries.items() if entry.startswith(f"{owner} ")]:
            del entries[address]

    def find_image(self, alias: str) -> bool:
        return alias in self.images

    def add_image(self, alias: str, files: Sequence[Path]) -> None:
        self.images[alias] = set()

    def hold_image(self, alias: str, owner: str) -> None:
        self.images[alias].add(owner)

    def drop_image(self, alias: str, owner: str) -> None:
        self.images[alias].discard(owner)
        if not self.images[alias]:
            del self.images[alias]

    def read_instance(self, name: str) -> InstanceState | None:
        return self.instances.get(name)

    def create_instance(self, spec: InstanceSpec) -> None:
        present = self.instances.get(spec.name)
        if present and present.owner != spec.owner:
            raise ConflictError(f"instance {spec.name} belongs to {present.owner}")
        self.instances[spec.name] = InstanceState(
            name=spec.name,
            owner=spec.owner,
            network=spec.network,
            vcpu=spec.vcpu,
            cores_per_socket=spec.cores_per_socket,
            memory_mib=spec.memory_mib,
            running=True,
            complete=False,
            boot_digest=spec.boot_script,
        )

    def complete_instance(self, name: str) -> None:
        self.instances[name] = replace(self.instances[name], complete=True)

    def resize_instance(
        self, name: str, owner: str, *, vcpu: int, cores_per_socket: int, memory_mib: int
    ) -> None:
        if name not in self.instances:
            raise NotFoundError(f"instance {name} is gone")
        self.instances[name] = replace(
            self.instances[name],
            vcpu=vcpu,
            cores_per_socket=cores_per_socket,
            memory_mib=memory_mib,
        )

    def start_instance(self, name: str, owner: str) -> None:
        self.instances[name] = replace(self.instances[name], running=True)

    def delete_instance(self, name: str, owner: str) -> None:
        self.instances.pop(name, None)
