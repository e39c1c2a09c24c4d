"""Filters of the health check: nodes of the platform and the addresses that move between them.

Pure functions on facts of the module `store_node`. Each row is a finding as in `objectstore.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Finding = dict[str, Any]

MIB = 1 << 20
# Room for another version of what the node runs, and for what its pods and its journal write.
SPACE_MIN_MIB = 2048
CLOCK_SKEW_MAX_S = 30


def finding(node: str, check: str, ok: bool, found: str, next_step: str) -> Finding:
    return {
        "node": node,
        "check": check,
        "ok": ok,
        "found": found,
        "next_step": "" if ok else next_step,
    }


def answers(facts: Mapping[str, Any]) -> bool:
    """Whether the node could be looked at."""
    return bool(facts) and not facts.get("unreachable") and not facts.get("failed")


def platform_health(facts: Mapping[str, Any], node: str, skew: float) -> list[Finding]:
    """Whether a node's own services run, its clock is right, and it has room. `skew` is by how many
    seconds its clock is ahead of ours.
    """
    if not answers(facts):
        step = (
            "see that the node runs (`incus list`, or the substrate's console) and answers to SSH; "
            "`make refresh`, then `make up`, starts it, or makes another one in its place"
        )
        said = (facts or {}).get("msg", "no answer")
        return [finding(node, "reachable over SSH", False, said, step)]
    away = {unit: state for unit, state in facts["units"].items() if state != "active (running)"}
    said = ", ".join(f"{unit} {state}" for unit, state in sorted(away.items()))
    free_mib = min(facts["free_bytes"].values()) // MIB
    return [
        finding(
            node,
            "services",
            not away,
            said or f"{len(facts['units'])} running",
            "`journalctl -u UNIT` on the node says why; playbooks/site.yml starts what should run",
        ),
        finding(
            node,
            "clock",
            abs(skew) <= CLOCK_SKEW_MAX_S,
            f"{skew:+.1f} s from the operator's",
            "set the clock of the node or of this machine: etcd and Ceph need nodes that agree, S3 "
            "refuses requests whose time is off",
        ),
        finding(
            node,
            "space",
            free_mib >= SPACE_MIN_MIB,
            f"{free_mib} MiB free",
            f"free at least {SPACE_MIN_MIB} MiB below /var/lib: kubelet ends pods, monitors end "
            "themselves where room is short",
        ),
    ]


def backends(facts: Mapping[str, Any], node: str) -> list[Finding]:
    """Whether an Envoy finds pods that are well."""
    if not answers(facts):
        return []
    seen = facts["backends"]
    wrong = {name: one["flags"] for name, one in seen.items() if one["flags"]}
    said = "; ".join(f"{name}: {', '.join(flags)}" for name, flags in sorted(wrong.items()))
    step = (
        "look at the rows of Kubernetes first; if they are well, the way there is not: `ip route` "
        "on the envoy names each node's pods"
    )
    return [
        finding(node, "pods behind Envoy", bool(seen) and not wrong, said or f"{len(seen)}", step)
    ]


def addresses(
    looks: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Whether each address has one owner. `wanted` holds addresses by purpose."""
    step = (
        "`journalctl -u keepalived` on the nodes that share it; two owners mean that the nodes do "
        "not hear each other"
    )
    found = []
    for purpose, those in wanted.items():
        for address in those:
            owners = sorted(
                node
                for node, facts in looks.items()
                if answers(facts) and address in facts["addresses"]
            )
            said = ", ".join(owners) or "nobody"
            found.append(finding("cluster", f"{purpose} {address}", len(owners) == 1, said, step))
    return found


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "platform_health_findings": platform_health,
            "backends_findings": backends,
            "address_findings": addresses,
        }
