"""Network policies: who may open connections to which port of whom.

They are made from the declaration that the nodes' packet filter is made of, too: an engine that
enforces policies can be had with any cluster but ours, and the filter knows no applications.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml

from objectstore_infra.workloads.names import SERVICES, ZOOKEEPER, labels
from objectstore_infra.workloads.pods import Spec

DECLARATION = (
    Path(__file__).resolve().parents[3] / "roles" / "pod_network" / "files" / "policies.yml"
)
PODS, NODES, ENVOYS, ANYWHERE = "pods", "nodes", "envoys", "anywhere"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the declaration."""

    to: str
    ports: tuple[int | str, ...]
    """Numbers, or `FIRST-LAST`."""
    protocol: str
    sources: tuple[str, ...]


def declared(file: Path = DECLARATION) -> list[Rule]:
    """Read the declaration."""
    rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [
        Rule(row["to"], tuple(row["ports"]), row["protocol"].upper(), tuple(row["from"]))
        for row in rows
    ]


def policies(
    rules: Iterable[Rule], nodes: Sequence[IPv4Address], envoys: Sequence[IPv4Address]
) -> dict[str, Spec]:
    """Return the policy of each workload of ours: what is not allowed in is refused."""
    found: dict[str, Spec] = {}
    rules = list(rules)
    for workload in (*SERVICES, ZOOKEEPER):
        ingress = [
            {
                "ports": [_port(port, rule.protocol) for port in rule.ports],
                **_from(rule.sources, nodes, envoys),
            }
            for rule in rules
            if rule.to == workload
        ]
        found[workload] = {
            "podSelector": {"matchLabels": labels(workload)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        }
    return found


def _port(port: int | str, protocol: str) -> Spec:
    first, _, last = str(port).partition("-")
    span: Spec = {"endPort": int(last)} if last else {}
    return {"protocol": protocol, "port": int(first), **span}


def _from(
    sources: Sequence[str], nodes: Sequence[IPv4Address], envoys: Sequence[IPv4Address]
) -> Spec:
    if ANYWHERE in sources:
        return {}
    peers: list[Spec] = []
    for source in sources:
        if source in (NODES, ENVOYS):
            addresses = nodes if source == NODES else envoys
            peers += [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses]
        elif source == PODS:
            peers.append({"podSelector": {}})
        else:
            peers.append({"podSelector": {"matchLabels": labels(source)}})
    return {"from": peers}
