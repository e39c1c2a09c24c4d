"""Filters of the object store's playbooks: judgements and texts, as pure functions on facts.

A *finding* is `{node, check, ok, found, next_step}`: one thing that was looked at on a node, what
was found, and, where it is not well, what the operator does next. What is looked at comes from the
module `store_node`; nothing here touches a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Finding = dict[str, Any]

MIB = 1 << 20
# An installed version, its unpacked archive, and room for the journal and the next one.
SPACE_MIN_MIB = 1024
# The guest's kernel and the substrate's own books take a little of what an instance is given.
MEMORY_SHARE_MIN = 0.9
SYSTEM_PORTS = {22}


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


def precheck(facts: Mapping[str, Any], node: str, wanted: Mapping[str, Any]) -> list[Finding]:
    """Whether a node can carry its part: system, clock, memory, space, ports.

    `wanted` holds `guest` (of the bundle's manifest), `now`, `clock_skew_max_s`, `memory_mib`,
    `paths`, `ports` (ours there) and `unit` (the service that may hold them already).
    """
    if unreachable := reached(facts, node):
        return unreachable
    system = facts["os"]
    skew = facts["clock"] - wanted["now"]
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
            "the substrate gives the node less than the stack says: run `make up`",
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


def store_health(facts: Mapping[str, Any], node: str, wanted: Mapping[str, Any]) -> list[Finding]:
    """Whether the store's processes on a default node are well.

    `wanted` holds `prefix`, `port`, and on the data node `cluster_port`.
    """
    if unreachable := reached(facts, node):
        return unreachable
    unit = facts["units"]["objectstore.service"]
    live, ready = facts["live"], facts["ready"]
    current = facts["current"][wanted["prefix"]]
    version = live.get("version", "")
    reasons = [
        f"{name}: {check.get('reason')}"
        for name, check in ready.get("checks", {}).items()
        if not check.get("ok")
    ]
    findings = [
        finding(
            node,
            "service",
            unit == "active (running)",
            unit,
            "`journalctl -u objectstore.service` on the node says why",
        ),
        finding(
            node,
            "version",
            bool(version) and version == current,
            f"runs {version or 'nothing'}, chosen is {current or 'nothing'}",
            "restart the service: systemctl restart objectstore.service",
        ),
        finding(
            node,
            "ready",
            ready["http"] == 200,
            "; ".join(reasons) or ready["error"] or f"answers {ready['http']}",
            "put right what is named; front ends need the data node and its cluster port",
        ),
    ]
    ports = {wanted["port"], wanted.get("cluster_port") or wanted["port"]} | SYSTEM_PORTS
    return [*findings, listening_finding(facts, node, ports)]


def listening_finding(facts: Mapping[str, Any], node: str, ports: set[int]) -> Finding:
    others = sorted(
        f"{s['address']}:{s['port']}"
        for s in facts["listening"]
        if s["port"] not in ports and not s["address"].startswith(("127.", "::1"))
    )
    return finding(
        node,
        "nothing else listens",
        not others,
        ", ".join(others) or "only ours",
        "`ss -lntp` on the node names the process; stop it",
    )


def entry_health(facts: Mapping[str, Any], node: str, wanted: Mapping[str, Any]) -> list[Finding]:
    """Whether an Envoy node is well: service, client addresses, and how it sees the nodes.

    `wanted` holds `client_addresses`, `backends` (address → node name) and `port`.
    """
    if unreachable := reached(facts, node):
        return unreachable
    unit = facts["units"]["envoy.service"]
    missing = sorted(set(wanted["client_addresses"]) - set(facts["addresses"]))
    findings = [
        finding(
            node,
            "service",
            unit == "active (running)",
            unit,
            "`journalctl -u envoy.service` on the node says why",
        ),
        finding(
            node,
            "client addresses",
            not missing,
            f"missing: {', '.join(missing)}" if missing else "owned",
            "systemctl restart objectstore-client-addresses.service",
        ),
        listening_finding(facts, node, {wanted["port"]} | SYSTEM_PORTS),
    ]
    seen = facts["backends"]
    for address, name in wanted["backends"].items():
        flags = seen.get(address, seen.get("error", {"flags": ["unknown to Envoy"]}))["flags"]
        step = (
            "an upgrade is under way or was interrupted: run upgrade.yml again"
            if flags == ["draining"]
            else f"look at {name} first: its own rows above say what is wrong"
        )
        findings.append(
            finding(node, f"sends to {name}", not flags, ", ".join(flags) or "healthy", step)
        )
    return findings


def probe_finding(result: Mapping[str, Any], node: str, what: str) -> Finding:
    """The outcome of the module `s3_probe` as a finding."""
    failed = bool(result.get("failed") or result.get("unreachable"))
    found = result.get("msg", "") if failed else f"{result.get('seconds', 0)} s"
    step = "an object could not be written and read back: mend the rows above, then run this again"
    return finding(node, what, not failed, found, step)


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
            "precheck_findings": precheck,
            "space_finding": space,
            "store_health_findings": store_health,
            "entry_health_findings": entry_health,
            "probe_finding": probe_finding,
            "findings_report": report,
            "findings_red": red,
        }
