"""What is done to a deployment: each fault is applied, lasts for a while and is healed.

A fault is a context: entered, it is there; left, it is taken away, after `held_s`.
Nodes are containers or machines of Incus; what they share with their host, the clock, cannot be
made to differ between containers, so that no fault of clocks is in here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.faults.cluster.machines import Machines, Pod, command

TABLE = "objectstore-faults"
FULL_RATIOS = ("0.0003", "0.0004", "0.0005")
_RATIO_NAMES = ("nearfull", "backfillfull", "full")
# The longest that a client may wait.
POD_S, NODE_S, HAND_OVER_S, ENVOY_S = 2.0, 10.0, 1.0, 5.0

Apply = Callable[[Machines], AbstractContextManager[str]]


@dataclass(frozen=True)
class Fault:
    """`apply` says what it chose. `goal_s` is the longest wait of a client that we allow, 0 where
    none is promised: writes are refused for as long as it lasts.
    """

    name: str
    about: str
    apply: Apply
    goal_s: float
    held_s: float = 8.0
    envoys: int = 1


@contextmanager
def nothing(machines: Machines) -> Iterator[str]:
    """What the load waits for anyway: what else the machines do shows in every other fault, too."""
    yield f"{len(machines.nodes)} nodes"


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


def killed(choose: Callable[[Machines], Pod]) -> Apply:
    """All processes of a pod get SIGKILL; Kubernetes starts them again."""

    @contextmanager
    def apply(machines: Machines) -> Iterator[str]:
        pod = choose(machines)
        machines.signal(pod, "KILL")
        yield f"{pod.name} on {pod.node}"

    return apply


def deleted(choose: Callable[[Machines], Pod]) -> Apply:
    """The pod is deleted, as an upgrade or a drained node does."""

    @contextmanager
    def apply(machines: Machines) -> Iterator[str]:
        pod = choose(machines)
        machines.kubectl("delete", "pod", pod.name, "--namespace=objectstore", "--wait=false")
        yield f"{pod.name} on {pod.node}"

    return apply


def paused(choose: Callable[[Machines], Pod]) -> Apply:
    """All processes of a pod are stopped, and go on."""

    @contextmanager
    def apply(machines: Machines) -> Iterator[str]:
        pod = choose(machines)
        machines.signal(pod, "STOP")
        try:
            yield f"{pod.name} on {pod.node}"
        finally:
            machines.signal(pod, "CONT")

    return apply


def _shard_process(machines: Machines) -> tuple[Pod, str, int]:
    """An owner, its shard, and that shard's process as the pod numbers it."""
    shard, pod = min(
        (shard, pod) for shard, pod in machines.owners().items() if shard != "directory"
    )
    started = [
        json.loads(line)
        for line in machines.kubectl("logs", "--namespace=objectstore", pod.name).splitlines()
        if '"child_started"' in line
    ]
    number = [line["child_pid"] for line in started if line["child"] == shard][-1]
    return pod, shard, number


def _signal_process(machines: Machines, pod: Pod, process: int, number: str) -> None:
    code = f"import os, signal; os.kill({process}, signal.SIG{number})"
    machines.inside(pod, code)


@contextmanager
def shard_process_killed(machines: Machines) -> Iterator[str]:
    pod, shard, process = _shard_process(machines)
    _signal_process(machines, pod, process, "KILL")
    yield f"{shard} in {pod.name}"


@contextmanager
def shard_process_paused(machines: Machines) -> Iterator[str]:
    pod, shard, process = _shard_process(machines)
    _signal_process(machines, pod, process, "STOP")
    try:
        yield f"{shard} in {pod.name}"
    finally:
        _signal_process(machines, pod, process, "CONT")


# --- nodes ---


def busiest_node(machines: Machines) -> str:
    """The node with most owners, the directory's counted."""
    nodes = [pod.node for pod in machines.owners().values()]
    return max(nodes, key=nodes.count)


@contextmanager
def node_killed(machines: Machines) -> Iterator[str]:
    node = busiest_node(machines)
    command("incus", "stop", "--force", node)
    try:
        yield node
    finally:
        command("incus", "start", node)


@contextmanager
def node_paused(machines: Machines) -> Iterator[str]:
    node = busiest_node(machines)
    command("incus", "pause", node)
    try:
        yield node
    finally:
        command("incus", "resume", node)


@contextmanager
def node_unplugged(machines: Machines) -> Iterator[str]:
    """Nobody hears the node, and it hears nobody."""
    node = busiest_node(machines)
    link = machines.link(node)
    command("ip", "link", "set", link, "down")
    try:
        yield node
    finally:
        command("ip", "link", "set", link, "up")


@contextmanager
def node_partitioned(machines: Machines) -> Iterator[str]:
    """The other nodes do not hear it, nor it them; envoys and clients hear all."""
    node = busiest_node(machines)
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


@contextmanager
def osd_killed(machines: Machines) -> Iterator[str]:
    """It stays away until it is healed."""
    node = machines.controllers[-1]
    machines.shell(node, "systemctl kill --signal=KILL 'ceph-osd@*' && systemctl stop 'ceph-osd@*'")
    try:
        yield node
    finally:
        machines.shell(node, f"systemctl start {_osd_unit(machines, node)}")


@contextmanager
def osd_paused(machines: Machines) -> Iterator[str]:
    node = machines.controllers[-1]
    unit = _osd_unit(machines, node)
    machines.shell(node, f"systemctl kill --signal=STOP {unit}")
    try:
        yield f"{unit} on {node}"
    finally:
        machines.shell(node, f"systemctl kill --signal=CONT {unit}")


def _osd_unit(machines: Machines, node: str) -> str:
    folder = machines.shell(node, "ls /var/lib/ceph/osd").split()[0]
    return f"ceph-osd@{folder.rpartition('-')[2]}"


@contextmanager
def osds_full(machines: Machines) -> Iterator[str]:
    """From now on OSDs call themselves full with less than they hold."""
    known = json.loads(machines.ask("ceph", "osd", "dump", "--format=json"))
    before = [f"{known[f'{name}_ratio']:.2f}" for name in _RATIO_NAMES]
    _set_ratios(machines, FULL_RATIOS)
    try:
        yield f"full from {float(FULL_RATIOS[-1]):.2%} on"
    finally:
        _set_ratios(machines, tuple(before))


def _set_ratios(machines: Machines, ratios: tuple[str, ...]) -> None:
    for name, ratio in zip(_RATIO_NAMES, ratios, strict=True):
        machines.ask("ceph", "osd", f"set-{name}-ratio", ratio)


# --- the entry ---


@contextmanager
def envoy_killed(machines: Machines) -> Iterator[str]:
    """systemd starts it again."""
    host = machines.envoys[0]
    machines.on(host, "systemctl", "kill", "--signal=KILL", "envoy")
    yield host


@contextmanager
def envoy_node_killed(machines: Machines) -> Iterator[str]:
    host = machines.envoys[0]
    command("incus", "stop", "--force", host)
    try:
        yield host
    finally:
        command("incus", "start", host)


FAULTS = (
    Fault("nothing", "for comparison: nothing fails", nothing, 0, 20),
    Fault("pod-kill", "a metadata pod is killed", killed(busiest_pod), POD_S),
    Fault("iam-kill", "the directory's pod is killed", killed(directory_pod), POD_S),
    Fault("front-end-kill", "a front end is killed", killed(any_front_end), POD_S),
    Fault("shard-kill", "a shard's process is killed", shard_process_killed, POD_S),
    Fault("hand-over", "a metadata pod is deleted", deleted(busiest_pod), HAND_OVER_S),
    Fault("iam-hand-over", "the directory's pod is deleted", deleted(directory_pod), HAND_OVER_S),
    Fault("front-end-drain", "a front end is deleted", deleted(any_front_end), HAND_OVER_S),
    Fault("zookeeper-kill", "ZooKeeper's leader is killed", killed(zookeeper_leader), POD_S),
    Fault("node-kill", "a node is switched off", node_killed, NODE_S, 20),
    Fault("node-network", "a node's network is gone", node_unplugged, NODE_S, 20),
    Fault("node-partition", "a node and the others are parted", node_partitioned, NODE_S, 20),
    Fault("node-pause", "a node stands still", node_paused, NODE_S, 60),
    Fault("pod-pause", "a metadata pod stands still", paused(busiest_pod), NODE_S, 60),
    Fault("shard-pause", "a shard's process stands still", shard_process_paused, NODE_S, 60),
    Fault("front-end-pause", "a front end stands still", paused(any_front_end), NODE_S, 60),
    Fault("osd-kill", "an OSD is killed and stays away", osd_killed, NODE_S, 20),
    Fault("osd-pause", "an OSD stands still", osd_paused, NODE_S, 60),
    Fault("osd-full", "all OSDs are full", osds_full, 0, 20),
    Fault("envoy-kill", "an Envoy is killed", envoy_killed, ENVOY_S),
    Fault("envoy-node-kill", "an envoy of two is switched off", envoy_node_killed, ENVOY_S, 20, 2),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
