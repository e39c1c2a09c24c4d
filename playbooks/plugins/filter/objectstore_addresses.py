"""Filters of the addresses that move between nodes: which nodes share which, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

CLIENT_VRRP_ID_FIRST = 100


def client_address_instances(
    addresses: Iterable[str], envoys: Sequence[str], check: str
) -> list[dict[str, Any]]:
    """The client addresses as the role keepalived takes them, spread evenly over the envoys.

    `envoys` are the envoys' own addresses; `check` the URL that says whether an envoy is well. Each
    address wants another envoy first; the others follow in the same order, so that the addresses
    of one that is gone are spread too.
    """
    instances = []
    for number, address in enumerate(addresses):
        first = number % len(envoys)
        # Rounds differ in the order of the rest: two addresses that lose one owner part.
        rest = [*envoys[first + 1 :], *envoys[:first]]
        turn = number // len(envoys) % len(rest) if rest else 0
        instances.append(
            {
                "name": f"client_{number}",
                "address": address,
                "id": CLIENT_VRRP_ID_FIRST + number,
                "check": check,
                "holders": [envoys[first], *rest[turn:], *rest[:turn]],
                "spread": True,
            }
        )
    return instances


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {"objectstore_client_address_instances": client_address_instances}
