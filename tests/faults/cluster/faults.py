"""What is done to a deployment: each fault is applied, lasts for a while and is healed.

What it hits is chosen before clients come: to ask Kubernetes and the store takes processor time
that they would miss. Applied it is a context: entered, the fault is there; left, after `held_s`, it
is taken away.
Nodes are containers or machines of Incus; what they share with their host, the clock, cannot be
made to differ between containers, so that no fault of clocks is in here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.cluster.machines import Machines, Pod, command

TABLE = "objectstore-faults"
FULL_RATIOS = ("0.0003", "0.0004", "0.0005")
_RATIO_NAMES = ("nearfull", "backfillfull", "full")
# The longest that a client may wait.
POD_S, NODE_S, HAND_OVER_S, ENVOY_S = 2.0, 10.0, 1.0, 5.0

Choose = Callable[[Machines], Any]
Apply = Callable[[Machines, Any], AbstractContextManager[str]]


@dataclass(frozen=True)
class Fault:
    """`apply` gets what `choose` found, and says what it is. `goal_s` is the longest wait of a
    client that we allow, 0 where none is promised: writes are refused for as long as it lasts.
    """

    name: str
    about: str
    choose: Choose
    apply: Apply
    goal_s: float
    held_s: float = 8.0
    envoys: int = 1


def all_nodes(machines: Machines) -> list[str]:
    return machines.nodes


@contextmanager
def nothing(_: Machines, nodes: list[str]) -> Iterator[str]:
    """What the load waits for anyway: what else the machines do shows in every other fault, too."""
    yield f"{len(nodes)} nodes"


# --- pods ---


def busiest_pod(machines: Machines) -> Pod:
    """The metadata pod with most shards."""
    owned = [pod for shard, pod in machines.owners().items() if shard != "directory"]
    return max(owned, key=owned.count)


def directory_pod(machines: Machines) -> Pod:
    return machines.owners()["directory"]


def any_front_end(machines: Machines) -> Pod:
    return machines.pods("object-controller")[0]


def zookeeper_leader(machines: Machines) -> Pod:
    return machines.leader()


@dataclass(frozen=True)
class ShardProcess:
    """That of a shard's owner; `number` is what the pod calls it."""

    pod: Pod
    shard: str
    number: int

    def __str__(self) -> str:
        return f"{self.shard} in {self.pod.name}"

    def signal(self, machines: Machines, name: str) -> None:
        code = f"import os, signal; os.kill({self.number}, signal.SIG{name})"
        machines.inside(self.pod, code)


def any_process(machines: Machines) -> ShardProcess:
    shard, pod = min(
        (shard, pod) for shard, pod in machines.owners().items() if shard != "directory"
    )
    started = [
        json.loads(line)
        for line in machines.kubectl("logs", "--namespace=objectstore", pod.name).splitlines()
        if '"child_started"' in line
    ]
    number = [line["child_pid"] for line in started if line["child"] == shard][-1]
    return ShardProcess(pod, shard, number)


@contextmanager
def killed(machines: Machines, target: Pod | ShardProcess) -> Iterator[str]:
    """SIGKILL; Kubernetes starts a pod again, the pod its shard's process."""
    target.signal(machines, "KILL")
    yield str(target)


@contextmanager
def deleted(machines: Machines, pod: Pod) -> Iterator[str]:
    """The pod is deleted, as an upgrade or a drained node does."""
    machines.kubectl("delete", "pod", pod.name, "--namespace=objectstore", "--wait=false")
    yield str(pod)


@contextmanager
def paused(machines: Machines, target: Pod | ShardProcess) -> Iterator[str]:
    """All processes are stopped, and go on."""
    target.signal(machines, "STOP")
    try:
        yield str(target)
    finally:
        target.signal(machines, "CONT")


# --- nodes ---


def busiest_node(machines: Machines) -> str:
    """The node with most owners, the directory's counted."""
    nodes = [pod.node for pod in machines.owners().values()]
    return max(nodes, key=nodes.count)


@contextmanager
def node_killed(machines: Machines, node: str) -> Iterator[str]:
    command("incus", "stop", "--force", node)
    try:
        yield node
    finally:
        command("incus", "start", node)


@contextmanager
def node_paused(machines: Machines, node: str) -> Iterator[str]:
    command("incus", "pause", node)
    try:
        yield node
    finally:
        command("incus", "resume", node)


@contextmanager
def node_unplugged(machines: Machines, node: str) -> Iterator[str]:
    """Nobody hears the node, and it hears nobody."""
    link = machines.link(node)
    command("ip", "link", "set", link, "down")
    try:
        yield node
    finally:
        command("ip", "link", "set", link, "up")


@contextmanager
def parted(machines: Machines, node: str) -> Iterator[str]:
    """The other nodes do not hear it, nor it them; envoys and clients hear all."""
    own = machines.hardware_address(node)
    others = [machines.hardware_address(each) for each in machines.nodes if each != node]
    peers = "{ " + ", ".join(others) + " }"
    rules = f"""table bridge {TABLE} {{
        chain forward {{
            type filter hook forward priority 0;
            ether saddr {own} ether daddr {peers} drop
            ether saddr {peers} ether daddr {own} drop
        }}
    }}"""
    command("nft", rules)
    try:
        yield node
    finally:
        command("nft", f"delete table bridge {TABLE}")


# --- storage ---


def last_controller(machines: Machines) -> str:
    return machines.controllers[-1]


@contextmanager
def osd_killed(machines: Machines, node: str) -> Iterator[str]:
    """It stays away until it is healed."""
    machines.shell(node, "systemctl kill --signal=KILL 'ceph-osd@*' && systemctl stop 'ceph-osd@*'")
    try:
        yield node
    finally:
        machines.shell(node, f"systemctl start {_osd_unit(machines, node)}")


@contextmanager
def osd_paused(machines: Machines, node: str) -> Iterator[str]:
    unit = _osd_unit(machines, node)
    machines.shell(node, f"systemctl kill --signal=STOP {unit}")
    try:
        yield f"{unit} on {node}"
    finally:
        machines.shell(node, f"systemctl kill --signal=CONT {unit}")


def _osd_unit(machines: Machines, node: str) -> str:
    folder = machines.shell(node, "ls /var/lib/ceph/osd").split()[0]
    return f"ceph-osd@{folder.rpartition('-')[2]}"


def full_ratios(machines: Machines) -> tuple[str, ...]:
    known = json.loads(machines.ask("ceph", "osd", "dump", "--format=json"))
    return tuple(f"{known[f'{name}_ratio']:.2f}" for name in _RATIO_NAMES)


@contextmanager
def osds_full(machines: Machines, before: tuple[str, ...]) -> Iterator[str]:
    """From now on OSDs call themselves full with less than they hold."""
    _set_ratios(machines, FULL_RATIOS)
    try:
        yield f"full from {float(FULL_RATIOS[-1]):.2%} on"
    finally:
        _set_ratios(machines, before)


def _set_ratios(machines: Machines, ratios: tuple[str, ...]) -> None:
    for name, ratio in zip(_RATIO_NAMES, ratios, strict=True):
        machines.ask("ceph", "osd", f"set-{name}-ratio", ratio)


# --- the entry ---


def first_envoy(machines: Machines) -> str:
    return machines.envoys[0]


@contextmanager
def envoy_killed(machines: Machines, host: str) -> Iterator[str]:
    """systemd starts it again."""
    machines.on(host, "systemctl", "kill", "--signal=KILL", "envoy")
    yield host


@contextmanager
def envoy_node_killed(machines: Machines, host: str) -> Iterator[str]:
    command("incus", "stop", "--force", host)
    try:
        yield host
    finally:
        command("incus", "start", host)


FAULTS = (
    Fault("nothing", "for comparison: nothing fails", all_nodes, nothing, 0, 20),
    Fault("pod-kill", "a metadata pod is killed", busiest_pod, killed, POD_S),
    Fault("iam-kill", "the directory's pod is killed", directory_pod, killed, POD_S),
    Fault("front-end-kill", "a front end is killed", any_front_end, killed, POD_S),
    Fault("shard-kill", "a shard's process is killed", any_process, killed, POD_S),
    Fault("hand-over", "a metadata pod is deleted", busiest_pod, deleted, HAND_OVER_S),
    Fault("iam-hand-over", "the directory's pod is deleted", directory_pod, deleted, HAND_OVER_S),
    Fault("front-end-drain", "a front end is deleted", any_front_end, deleted, HAND_OVER_S),
    Fault("zookeeper-kill", "ZooKeeper's leader is killed", zookeeper_leader, killed, POD_S),
    Fault("node-kill", "a node is switched off", busiest_node, node_killed, NODE_S, 20),
    Fault("node-network", "a node's network is gone", busiest_node, node_unplugged, NODE_S, 20),
    Fault("node-partition", "a node is parted from the others", busiest_node, parted, NODE_S, 20),
    Fault("node-pause", "a node stands still", busiest_node, node_paused, NODE_S, 60),
    Fault("pod-pause", "a metadata pod stands still", busiest_pod, paused, NODE_S, 60),
    Fault("shard-pause", "a shard's process stands still", any_process, paused, NODE_S, 60),
    Fault("front-end-pause", "a front end stands still", any_front_end, paused, NODE_S, 60),
    Fault("osd-kill", "an OSD is killed and stays away", last_controller, osd_killed, NODE_S, 20),
    Fault("osd-pause", "an OSD stands still", last_controller, osd_paused, NODE_S, 60),
    Fault("osd-full", "all OSDs are full", full_ratios, osds_full, 0, 20),
    Fault("envoy-kill", "an Envoy is killed", first_envoy, envoy_killed, ENVOY_S),
    Fault(
        "envoy-node-kill", "an envoy of two is switched off", first_envoy, envoy_node_killed,
        ENVOY_S, held_s=20, envoys=2,
    ),
)  # fmt: skip
BY_NAME = {fault.name: fault for fault in FAULTS}
