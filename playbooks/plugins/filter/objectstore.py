"""Filters of the object store's playbooks: pure functions on what the inventory holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def nodes(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> list[dict[str, str]]:
    """Name, short name (without the store's) and first address of each host, in order."""
    return [
        {
            "name": host,
            "short": host.removeprefix(f"{hostvars[host]['objectstore_name']}-"),
            "address": hostvars[host]["objectstore_vm"]["addresses"][0],
        }
        for host in hosts
    ]


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {"objectstore_nodes": nodes}
