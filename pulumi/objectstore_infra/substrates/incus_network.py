"""Networks of the Incus substrate, and the ledger of reserved addresses.

The ledger is the network's `user.objectstore.address.A.B.C.D` keys, `OWNER PURPOSE` each, changed
only under a lock and the network's ETag, so that two stores on one existing network cannot take
the same address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface

from objectstore_infra.errors import (
    ChangedMeanwhileError,
    ConflictError,
    NotFoundError,
    SubstrateError,
)
from objectstore_infra.substrates.base import NetworkSpec, NetworkState
from objectstore_infra.substrates.incus_base import GUARDED_UPDATES_MAX, KEY_OWNER, IncusPart

KEY_ADDRESS = "user.objectstore.address."


class IncusNetworks(IncusPart):
    """Implements the network and ledger methods of `base.Substrate`."""

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
