"""Filters of the platform under the store: nodes' numbers and pod subnets, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from ansible.errors import AnsibleFilterError

POD_SUBNET_PREFIX = 24


def node_number(address: str, infrastructure: Sequence[str]) -> int:
    """The place of a node's address among the store's infrastructure addresses, from 0.

    It never changes while the node exists, and no two nodes share one.
    """
    try:
        return [str(other) for other in infrastructure].index(str(address))
    except ValueError:
        raise AnsibleFilterError(
            f"{address} is none of the store's infrastructure addresses"
        ) from None


def pod_subnet(number: int, pod_network: str) -> str:
    """The part of the pod network that the node with this number gives to its pods."""
    network = IPv4Network(pod_network)
    step = 1 << (32 - POD_SUBNET_PREFIX)
    subnet = IPv4Network((int(network.network_address) + int(number) * step, POD_SUBNET_PREFIX))
    if not subnet.subnet_of(network):
        raise AnsibleFilterError(f"{pod_network} has no subnet for node {number}")
    return str(subnet)


def pod_routes(
    hostvars: Mapping[str, Any], hosts: Iterable[str], here: str
) -> list[dict[str, str]]:
    """Subnet and address of every node of `hosts` but `here`: where its pods are reached."""
    return [
        {
            "subnet": hostvars[host]["objectstore_pod_subnet"],
            "address": hostvars[host]["objectstore_vm"]["addresses"][0],
        }
        for host in hosts
        if host != here
    ]


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "objectstore_node_number": node_number,
            "objectstore_pod_subnet": pod_subnet,
            "objectstore_pod_routes": pod_routes,
        }
