"""Network and AddressReservation."""

from __future__ import annotations

from typing import ClassVar

from objectstore_infra.errors import ConflictError
from objectstore_infra.provider.handler import (
    Context,
    Found,
    Handler,
    Input,
    OnChange,
    mapping,
    number,
    text,
)
from objectstore_infra.provider.values import Record
from objectstore_infra.substrates.base import NetworkSpec, NetworkState


class Network(Handler):
    """A bridge of the store's own, or an existing one that is only used."""

    type_name = "Network"
    inputs: ClassVar = {
        "name": Input(str),
        "owner": Input(str),
        "existing": Input(bool),
        "gateway": Input(str, OnChange.UPDATE),
        "prefixLength": Input(int, OnChange.UPDATE),
        "dhcpRange": Input(str, OnChange.UPDATE),
    }

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Make the bridge, or see that the existing one is as described."""
        self._apply(context, inputs)
        return text(inputs, "name"), {}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """Look at the bridge."""
        actual = context.substrate.read_network(text(state, "name"))
        if actual is None:
            return None
        if not state["existing"] and actual.owner != state["owner"]:
            return None
        seen: Record = {
            "gateway": actual.gateway,
            "prefixLength": actual.prefix_length,
            "dhcpRange": actual.dhcp_range,
        }
        return Found(actual.name, state | seen)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Bring the bridge to the description."""
        self._apply(context, inputs)
        return {}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Delete the bridge if it is the store's own."""
        if not state["existing"]:
            context.substrate.delete_network(resource_id, text(state, "owner"))

    @staticmethod
    def _apply(context: Context, inputs: Record) -> None:
        wanted = NetworkSpec(
            name=text(inputs, "name"),
            owner=text(inputs, "owner"),
            gateway=text(inputs, "gateway"),
            prefix_length=number(inputs, "prefixLength"),
            dhcp_range=text(inputs, "dhcpRange"),
        )
        if inputs["existing"]:
            _compare(context.substrate.read_network(wanted.name), wanted)
        else:
            context.substrate.apply_network(wanted)


def _compare(actual: NetworkState | None, wanted: NetworkSpec) -> None:
    if actual is None:
        raise ConflictError(
            f"there is no network {wanted.name}",
            hint="`incus network list` shows those there are; or drop `existing` to have one made",
        )
    differing = [
        f"{what} is {is_!s}, not {should!s}"
        for what, is_, should in (
            ("network.gateway", actual.gateway, wanted.gateway),
            ("the prefix length of network.subnet", actual.prefix_length, wanted.prefix_length),
            ("network.dhcpPool", actual.dhcp_range or "empty", wanted.dhcp_range or "empty"),
        )
        if is_ != should
    ]
    if differing:
        raise ConflictError(
            f"the existing network {wanted.name} is not as described: {'; '.join(differing)}",
            hint="correct the stack's configuration",
        )


class AddressReservation(Handler):
    """The addresses of one store in the network's ledger."""

    type_name = "AddressReservation"
    inputs: ClassVar = {
        "network": Input(str),
        "owner": Input(str),
        "purposes": Input(dict, OnChange.UPDATE),
    }

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Reserve all addresses or none."""
        self._reserve(context, inputs)
        return f"{inputs['network']}/{inputs['owner']}", {}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """Look into the ledger."""
        network, owner = text(state, "network"), text(state, "owner")
        if context.substrate.read_network(network) is None:
            return None
        entries = context.substrate.reservations(network)
        mine = {
            address: entry.removeprefix(f"{owner} ")
            for address, entry in entries.items()
            if entry.startswith(f"{owner} ")
        }
        return Found(f"{network}/{owner}", state | {"purposes": mine}) if mine else None

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Make the owner's entries what they should be."""
        self._reserve(context, inputs)
        return {}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Release all of the owner's addresses."""
        context.substrate.release(text(state, "network"), text(state, "owner"))

    @staticmethod
    def _reserve(context: Context, inputs: Record) -> None:
        purposes = {ip: str(purpose) for ip, purpose in mapping(inputs, "purposes").items()}
        context.substrate.reserve(text(inputs, "network"), text(inputs, "owner"), purposes)
