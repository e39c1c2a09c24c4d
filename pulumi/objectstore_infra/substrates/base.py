"""What the provider asks of a substrate, whatever it is.

A substrate makes networks, keeps a ledger of reserved addresses per network, holds node images and
runs instances. Everything it makes carries its owner, one string per store and stack; a create is
idempotent for the same owner and refuses another's, so that an interrupted run can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A bridge of the store's own, with NAT to the outside and an optional DHCP pool."""

    name: str
    owner: str
    gateway: str
    prefix_length: int
    dhcp_range: str
    """`FIRST-LAST`, or empty: no DHCP."""


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A network as the substrate has it; `owner` is empty for one that no store made."""

    name: str
    owner: str
    gateway: str
    prefix_length: int
    dhcp_range: str


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One machine of a store."""

    name: str
    owner: str
    image: str
    """Alias of a node image."""
    network: str
    vcpu: int
    cores_per_socket: int
    memory_mib: int
    container_host: bool
    """It runs Kubernetes and Ceph, which need more of the kernel than a plain guest is given."""
    boot_script: str
    """Shell text applied at every boot: host name, address, authorized key."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """A machine as the substrate has it."""

    name: str
    owner: str
    network: str
    vcpu: int
    cores_per_socket: int
    memory_mib: int
    running: bool
    complete: bool
    """Its maker saw it answer over SSH once; false means an interrupted create."""
    boot_digest: str


class Substrate(Protocol):
    """The operations of a substrate. All raise SubstrateError and its children."""

    def read_network(self, name: str) -> NetworkState | None:
        """Return the network, or None when there is none of that name."""

    def apply_network(self, spec: NetworkSpec) -> None:
        """Create the network, or bring one of the same owner to the specification."""

    def delete_network(self, name: str, owner: str) -> None:
        """Delete the owner's network; one that is gone is fine."""

    def reservations(self, network: str) -> Mapping[str, str]:
        """Return address → `OWNER PURPOSE` for all reserved addresses of the network."""

    def reserve(self, network: str, owner: str, purposes: Mapping[str, str]) -> None:
        """Make the owner's entries exactly address → purpose; all or nothing.

        Raises ConflictError naming the addresses that others reserved or hold.
        """

    def release(self, network: str, owner: str) -> None:
        """Drop all of the owner's entries; a network that is gone is fine."""

    def find_image(self, alias: str) -> bool:
        """Say whether the image is there."""

    def add_image(self, alias: str, files: Sequence[Path]) -> None:
        """Import metadata and root file system under an alias."""

    def hold_image(self, alias: str, owner: str) -> None:
        """Record that the owner uses the image."""

    def drop_image(self, alias: str, owner: str) -> None:
        """Drop the owner's hold; delete the image when nobody holds it any more."""

    def read_instance(self, name: str) -> InstanceState | None:
        """Return the instance, or None."""

    def create_instance(self, spec: InstanceSpec) -> None:
        """Create and start; resumes the owner's interrupted create. Not yet `complete`."""

    def complete_instance(self, name: str) -> None:
        """Record that the instance answered, which ends its creation."""

    def resize_instance(
        self, name: str, owner: str, *, vcpu: int, cores_per_socket: int, memory_mib: int
    ) -> None:
        """Change vCPU and memory of a running instance."""

    def start_instance(self, name: str, owner: str) -> None:
        """Start the instance if it is stopped."""

    def delete_instance(self, name: str, owner: str) -> None:
        """Stop and delete; one that is gone is fine."""
