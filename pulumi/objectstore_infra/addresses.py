"""Which address does what (promise D5). Pure.

A store takes 18 infrastructure addresses (its machines use some, the rest is room to scale out),
a DNS and a management address, and at least 4 client addresses. All lie in the subnet, outside
the DHCP pool, and none is the gateway. What the operator does not choose is planned here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

INFRASTRUCTURE_COUNT = 18
CLIENT_COUNT_MIN = 4
FIRST_PLANNED_HOST = 10
DEFAULTS_IN_FRONT = 3
LIST_MAX = 256


@dataclass(frozen=True, slots=True)
class AddressRange:
    """First and last address, both included."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Every address of a store."""

    subnet: IPv4Network
    gateway: IPv4Address
    dhcp_pool: AddressRange | None
    infrastructure: tuple[IPv4Address, ...]
    dns: IPv4Address
    management: IPv4Address
    clients: tuple[IPv4Address, ...]

    def purposes(self) -> dict[str, str]:
        """Return address → what it is reserved for."""
        return {
            **{str(address): "infrastructure" for address in self.infrastructure},
            str(self.dns): "dns",
            str(self.management): "management",
            **{str(address): "client" for address in self.clients},
        }


def parse_range(text: str) -> AddressRange:
    """Parse `FIRST-LAST`. Raises ValueError saying what is wrong."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError("not a range FIRST-LAST")
    parsed = AddressRange(IPv4Address(first.strip()), IPv4Address(last.strip()))
    if parsed.first > parsed.last:
        raise ValueError("the first address lies behind the last")
    return parsed


def parse_list(entries: Sequence[str]) -> tuple[IPv4Address, ...]:
    """Parse addresses and ranges into addresses, in the order given. Raises ValueError."""
    found: list[IPv4Address] = []
    for entry in entries:
        span = parse_range(entry if "-" in entry else f"{entry}-{entry}")
        if int(span.last) - int(span.first) >= LIST_MAX:
            raise ValueError(f"{entry} has more than {LIST_MAX} addresses")
        found += [IPv4Address(value) for value in range(int(span.first), int(span.last) + 1)]
    return tuple(found)


def free_addresses(
    subnet: IPv4Network, taken: set[IPv4Address], dhcp_pool: AddressRange | None
) -> Iterator[IPv4Address]:
    """Yield usable addresses from the tenth host on, then the few before it."""
    base, count = int(subnet.network_address), subnet.num_addresses
    start = min(FIRST_PLANNED_HOST, count)
    for offset in (*range(start, count - 1), *range(1, start)):
        address = IPv4Address(base + offset)
        if address not in taken and not (dhcp_pool and address in dhcp_pool):
            yield address


def machine_addresses(
    infrastructure: Sequence[IPv4Address], workers: int, envoys: int
) -> tuple[list[IPv4Address], list[IPv4Address]]:
    """Return the addresses of default-0.. and envoy-1.. out of the infrastructure addresses.

    default-0, -1, -2 have the first three and envoy-1 the fourth; more workers follow behind it,
    more envoys come from the end. So nobody's address changes when a store is scaled.
    """
    front, behind = infrastructure[:DEFAULTS_IN_FRONT], infrastructure[DEFAULTS_IN_FRONT + 1 :]
    defaults = [*front, *behind][:workers]
    extra_envoys = list(reversed(behind))[: envoys - 1]
    if set(defaults) & set(extra_envoys) or len(defaults) < workers:
        raise ValueError(
            f"{workers} workers and {envoys} envoys need more than the "
            f"{len(infrastructure)} infrastructure addresses"
        )
    return defaults, [infrastructure[DEFAULTS_IN_FRONT], *extra_envoys]
