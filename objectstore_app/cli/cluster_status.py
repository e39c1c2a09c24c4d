"""The part of `objectstore status` about a deployment: machines, pods, shards, pools, what is ill.

What there is, is looked up by the deployment's own playbook over SSH (`playbooks/status.yml`), that
leaves a report in the store's folder; here it is only shown. It needs a checkout of the repository
and the extra `deploy`, as `objectstore stack` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import click

from .stack import deployment_package

PLAYBOOK = "status.yml"


class Machine(TypedDict):
    """A VM as the stack describes it, and what Kubernetes says of it."""

    name: str
    vcpu: int
    memory_mib: int
    addresses: list[str]
    state: str
    kubernetes: str


class Pod(TypedDict):
    """A pod of the store."""

    name: str
    node: str
    ready: bool
    reason: str
    restarts: int


class Shard(TypedDict):
    """Who owns a shard and who follows it."""

    shard: str
    owners: list[str]
    epoch: int
    standbys: list[str]


class Pool(TypedDict):
    """A pool of Ceph; bytes are before copies are made."""

    stored_bytes: int
    objects: int
    free_bytes: int


class Finding(TypedDict):
    """Something that is not well, and what the operator does next."""

    node: str
    check: str
    found: str
    next_step: str


class Capacity(TypedDict):
    """Raw room of all disks."""

    total_bytes: int
    used_bytes: int


class Defaults(TypedDict):
    """What becomes of objects in buckets that say nothing about it."""

    encryption: str
    compression: str


class Report(TypedDict):
    """What the playbook wrote; `metrics` is the page of a front end, empty when none answered."""

    status: str
    machines: list[Machine]
    pods: list[Pod]
    shards: list[Shard]
    pools: dict[str, Pool]
    capacity: Capacity
    defaults: Defaults
    degraded: list[Finding]
    metrics: str


def look(store: str) -> Report:
    """Run the playbook on the store's machines and return its report."""
    runs = deployment_package("ansible_run")
    folders = deployment_package("state_folder")
    errors = deployment_package("errors")
    folder: Path = folders.store_folder(store)
    if not (folder / folders.INVENTORY).is_file():
        raise click.ClickException(f"no store {store!r} was deployed from here: {folder}")
    quiet: Callable[[str], None] = lambda _: None  # noqa: E731 - the report is what is shown
    try:
        runs.run_playbook(PLAYBOOK, store, quiet)
    except errors.InfraError as error:
        raise click.ClickException(str(error)) from error
    report: Report = json.loads((folder / "status.json").read_text())
    return report


def shown(report: Report) -> str:
    """The report as text, one thing a line."""
    sections = [
        ("machines", [_machine(one) for one in report["machines"]]),
        ("pods", [_pod(one) for one in report["pods"]]),
        ("shards", [_shard(one) for one in report["shards"]]),
        ("pools", [_pool(name, one) for name, one in sorted(report["pools"].items())]),
        ("capacity", [_capacity(report["capacity"])]),
        ("objects by default", [_defaults(report["defaults"])]),
        ("not well", _not_well(report["degraded"])),
    ]
    lines = []
    for title, rows in sections:
        lines += [title, *(f"  {row}" for row in rows)] if rows else []
    return "\n".join(lines)


def _machine(one: Machine) -> str:
    shape = f"{one['vcpu']} vCPU, {one['memory_mib']} MiB, {', '.join(one['addresses'])}"
    return f"{one['name']:<24} {shape:<40} {one['state']} {one['kubernetes']}".rstrip()


def _pod(one: Pod) -> str:
    state = "ready" if one["ready"] else one["reason"]
    restarts = f", {one['restarts']} restarts" if one["restarts"] else ""
    return f"{one['name']:<40} {one['node']:<24} {state}{restarts}"


def _shard(one: Shard) -> str:
    owners = ", ".join(one["owners"]) or "NOBODY"
    standbys = ", ".join(one["standbys"]) or "nobody"
    return f"{one['shard']:<12} {owners} (epoch {one['epoch']}), followed by {standbys}"


def _pool(name: str, one: Pool) -> str:
    stored, free = _gib(one["stored_bytes"]), _gib(one["free_bytes"])
    return f"{name:<24} {stored} in {one['objects']} objects, room for {free}"


def _capacity(one: Capacity) -> str:
    return f"{_gib(one['used_bytes'])} of {_gib(one['total_bytes'])} of all disks used"


def _defaults(one: Defaults) -> str:
    return f"encryption {one['encryption']}, compression {one['compression']}"


def _not_well(found: Sequence[Finding]) -> list[str]:
    rows = []
    for one in found:
        rows.append(f"{one['node']}, {one['check']}: {one['found']}")
        rows.append(f"  next step: {one['next_step']}")
    return rows


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def endpoint(store: str) -> str:
    """A client address of the store, as its inventory names it."""
    folders = deployment_package("state_folder")
    path: Path = folders.store_folder(store) / folders.INVENTORY
    description: Mapping[str, Mapping[str, Mapping[str, list[str]]]] = json.loads(path.read_text())
    return f"http://{description['all']['vars']['objectstore_client_addresses'][0]}:7200"
