"""Filters of the platform under the store: nodes' numbers, pod subnets and packet rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from ansible.errors import AnsibleFilterError

POD_SUBNET_PREFIX = 24
# What a policy's `from` may name besides applications, which are all pods to a packet filter.
SOURCES = ("pods", "nodes", "envoys", "anywhere")


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


def addresses_within(addresses: Iterable[str], network: str) -> list[str]:
    """Those of the addresses that lie in the network."""
    inside = IPv4Network(network)
    return [str(address) for address in addresses if IPv4Address(str(address)) in inside]


def packet_rules(policies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The network policies as nft rules.

    Returns the rules of `pods` and `nodes`, one for each kind of source, which are nft sets of that
    name; and `node_ports`: protocol → every port of the nodes that is filtered.
    """
    rules: dict[str, list[str]] = {"pods": [], "nodes": []}
    node_ports: dict[str, list[str]] = {}
    for policy in policies:
        ports = [str(port) for port in policy["ports"]]
        if policy["to"] == "nodes":
            node_ports.setdefault(policy["protocol"], []).extend(ports)
        kinds = sorted({name if name in SOURCES else "pods" for name in policy["from"]})
        for kind in ["anywhere"] if "anywhere" in kinds else kinds:
            match = "" if kind == "anywhere" else f"ip saddr @{kind} "
            rule = f"{match}{policy['protocol']} dport {{ {', '.join(ports)} }} accept"
            of_nodes = policy["to"] == "nodes"
            rules["nodes" if of_nodes else "pods"].append(f'{rule} comment "{policy["to"]}"')
    joined = {protocol: ", ".join(ports) for protocol, ports in node_ports.items()}
    return {**rules, "node_ports": joined}


def cluster_plan(
    looks: Mapping[str, Mapping[str, Any]], control_plane: Sequence[str], endpoint: str
) -> dict[str, Any]:
    """What becomes of each node: who is a member, where the cluster begins, who joins.

    `looks` holds what the module `kubeadm_node` found on each node of the run. `first` is a node of
    the control plane to ask, or, where nobody is a member, the one to begin with: the holder of the
    endpoint, since kubeadm asks there for the API that it has just started. It is empty when
    nobody is a member and not all of the control plane was looked at: who is missing may be one.
    `asked` is the node whose access the operator gets: the same one in each run.
    """
    here = [node for node in control_plane if node in looks]
    members = [node for node in here if looks[node]["member"]]
    holders = [node for node in here if endpoint in looks[node]["addresses"]]
    complete = len(here) == len(control_plane)
    candidates = members or (holders + here if complete else [])
    first = candidates[0] if candidates else ""
    new = [node for node in looks if not looks[node]["member"] and node != first]
    return {
        "members": members,
        "first": first,
        "asked": here[0] if here else "",
        "joining": sorted(new, key=lambda node: node not in control_plane),
    }


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "objectstore_node_number": node_number,
            "objectstore_pod_subnet": pod_subnet,
            "objectstore_pod_routes": pod_routes,
            "objectstore_addresses_within": addresses_within,
            "objectstore_packet_rules": packet_rules,
            "objectstore_cluster_plan": cluster_plan,
        }
