"""Filters of the object store's playbooks: judgements and texts, as pure functions on facts.

A *finding* is `{node, check, ok, found, next_step}`: one thing that was looked at on a node, what
was found, and, where it is not well, what the operator does next. What is looked at comes from the
module `store_node`; nothing here touches a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Finding = dict[str, Any]

MIB = 1 << 20
# An installed version, its unpacked archive, and room for the journal and the next one.
SPACE_MIN_MIB = 1024
# The guest's kernel and the substrate's own books take a little of what an instance is given.
MEMORY_SHARE_MIN = 0.9


def finding(node: str, check: str, ok: bool, found: object, next_step: str = "") -> Finding:
    return {
        "node": node,
        "check": check,
        "ok": ok,
        "found": str(found),
        "next_step": "" if ok else next_step,
    }


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


def clock_skew(facts: Mapping[str, Any], now: datetime) -> float:
    """By how many seconds a node's clock is ahead of the operator's, behind where negative; 0 for
    one that was not looked at. It was read between the time at which it was asked for and `now`,
    both in UTC, which are far apart where another node keeps us waiting.
    """
    if "clock" not in facts:
        return 0.0
    asked = datetime.fromisoformat(facts["asked"]).replace(tzinfo=UTC).timestamp()
    clock: float = facts["clock"]
    return max(clock - now.replace(tzinfo=UTC).timestamp(), 0.0) + min(clock - asked, 0.0)


def precheck(facts: Mapping[str, Any], node: str, wanted: Mapping[str, Any]) -> list[Finding]:
    """Whether a node can carry its part: system, clock, memory, space, ports.

    `wanted` holds `guest` (of the bundle's manifest), `clock_skew_s` (what it is) and
    `clock_skew_max_s`, `memory_mib`, `paths`, `ports` (ours there) and `unit` (the service that may
    hold them already).
    """
    if unreachable := reached(facts, node):
        return unreachable
    system = facts["os"]
    skew = wanted["clock_skew_s"]
    memory_mib = facts["memory_bytes"] // MIB
    guest = wanted["guest"]
    ours = facts["units"].get(wanted["unit"], "").startswith("active")
    taken = sorted({s["port"] for s in facts["listening"]} & set(wanted["ports"]))
    return [
        finding(
            node,
            "system",
            system.get("id") == "debian",
            f"{system.get('id')} {system.get('version_id')}",
            "nodes run Debian 13; rebuild the node from the stack's image",
        ),
        finding(
            node,
            "Python and machine",
            facts["python"] == guest["python"] and facts["machine"] == guest["machine"],
            f"Python {facts['python']} on {facts['machine']}",
            f"the bundle is for Python {guest['python']} on {guest['machine']}: build one for "
            "this node's system",
        ),
        finding(
            node,
            "clock",
            abs(skew) <= wanted["clock_skew_max_s"],
            f"{skew:+.0f} s from the operator's",
            "set the node's clock; S3 refuses requests whose time is off",
        ),
        finding(
            node,
            "memory",
            memory_mib >= wanted["memory_mib"] * MEMORY_SHARE_MIN,
            f"{memory_mib} MiB of {wanted['memory_mib']}",
            "the substrate gives it less than the stack says: `make refresh`, then `make up`",
        ),
        space(facts, node, wanted["paths"]),
        finding(
            node,
            "ports",
            ours or not taken,
            ("held by our own service" if ours else f"taken: {taken}") if taken else "free",
            "stop what listens there: `ss -lntp` on the node names it",
        ),
    ]


def space(facts: Mapping[str, Any], node: str, paths: Sequence[str]) -> Finding:
    """Whether another version fits where versions and data lie."""
    free_mib = min(facts["free_bytes"][path] for path in paths) // MIB
    return finding(
        node,
        "space",
        free_mib >= SPACE_MIN_MIB,
        f"{free_mib} MiB free",
        f"free at least {SPACE_MIN_MIB} MiB; versions no longer needed lie in /opt/objectstore",
    )


def reached(facts: Mapping[str, Any], node: str) -> list[Finding]:
    """The only finding about a node that cannot be reached, or nothing."""
    if facts and not facts.get("unreachable") and not facts.get("failed"):
        return []
    said = (facts or {}).get("msg", "no answer")
    step = "see that the node runs (`incus list`, or the substrate's console) and answers to SSH"
    return [finding(node, "reachable over SSH", False, said, step)]


def report(findings: Sequence[Finding]) -> list[str]:
    """One line per finding, the ones that are not well with their next step."""
    width = max((len(f["node"]) for f in findings), default=0)
    check = max((len(f["check"]) for f in findings), default=0)
    lines = []
    for f in findings:
        mark = "ok " if f["ok"] else "RED"
        lines.append(f"{mark}  {f['node']:<{width}}  {f['check']:<{check}}  {f['found']}".rstrip())
        if not f["ok"]:
            lines.append(f"     next step: {f['next_step']}")
    return lines


def red(findings: Sequence[Finding]) -> list[str]:
    """What is not well, one short sentence each."""
    return [f"{f['node']}, {f['check']}: {f['found']}" for f in findings if not f["ok"]]


class FilterModule:
    """The table that Ansible reads."""

    def filters(self) -> dict[str, Any]:
        return {
            "objectstore_nodes": nodes,
            "clock_skew": clock_skew,
            "precheck_findings": precheck,
            "space_finding": space,
            "findings_report": report,
            "findings_red": red,
        }
