"""A deployment's VMs on Incus and what runs on them, for whoever takes it away.

Everything goes through the substrate, which reaches a VM whose network is gone.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass

NAMESPACE = "objectstore"
CONFIG = "--kubeconfig=/etc/kubernetes/admin.conf"
TIMEOUT_S = 60.0
ASK_S_MAX = 10
PEER_PORT = 2888  # ZooKeeper's followers connect to their leader here
_MAP = "print(open('/var/lib/objectstore/run/map.json').read())"
_READY = "Ready"


class MachineError(Exception):
    """A command on a VM, or of the substrate, did not do what it was to do."""


def command(*argv: str, timeout_s: float = TIMEOUT_S) -> str:
    """What it printed. Raises MachineError."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise MachineError(f"{' '.join(argv)}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{' '.join(argv)}: no end within {timeout_s:.0f} s") from error
    return done.stdout


@dataclass(frozen=True)
class Pod:
    """A pod that runs; `uid` is Kubernetes' name for its life."""

    name: str
    service: str
    node: str
    uid: str

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"

    def signal(self, machines: Machines, name: str) -> None:
        """To every process of the pod but the one that holds its network."""
        uid = self.uid.replace("-", "_")
        script = f"""
            for found in $(grep -lsE 'pod({uid}|{self.uid})' /proc/[0-9]*/cgroup); do
              process=${{found%/cgroup}}
              case "$(tr '\\0' ' ' 2>&1 < $process/cmdline)" in '/pause ') continue;; esac
              processes="$processes ${{process#/proc/}}"
            done
            # Some end together with others.
            kill -{name} $processes 2>/dev/null || true"""
        machines.shell(self.node, script)


@dataclass(frozen=True)
class Machines:
    """The VMs of one store. `controllers` are the nodes of the control plane."""

    nodes: tuple[str, ...]
    controllers: tuple[str, ...]
    envoys: tuple[str, ...]

    def on(self, host: str, *argv: str, timeout_s: float = TIMEOUT_S) -> str:
        return command("incus", "exec", host, "--", *argv, timeout_s=timeout_s)

    def shell(self, host: str, script: str) -> str:
        return self.on(host, "sh", "-ec", script)

    def ask(self, *argv: str) -> str:
        """A program's answer on a node of the control plane that gives one. Raises MachineError."""
        problem = MachineError("there is no node of the control plane")
        for host in self.controllers:
            try:
                return self.on(host, "timeout", str(ASK_S_MAX), *argv, timeout_s=ASK_S_MAX + 5)
            except MachineError as error:
                problem = error
        raise problem

    def kubectl(self, *argv: str) -> str:
        return self.ask("kubectl", CONFIG, f"--request-timeout={ASK_S_MAX}s", *argv)

    def pods(self, service: str = "") -> list[Pod]:
        """Those of the store, or of one of its services, that run."""
        selector = (f"--selector=app.kubernetes.io/name={service}",) if service else ()
        items = json.loads(
            self.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=json", *selector)
        )["items"]
        return [
            Pod(
                item["metadata"]["name"],
                item["metadata"]["labels"]["app.kubernetes.io/name"],
                item["spec"]["nodeName"],
                item["metadata"]["uid"],
            )
            for item in items
            if item["status"].get("phase") == "Running"
        ]

    def inside(self, pod: Pod, code: str) -> str:
        """What a piece of Python prints in a pod."""
        where = (f"--namespace={NAMESPACE}", pod.name)
        return self.kubectl("exec", *where, "--", "/usr/bin/python3", "-S", "-c", code)

    def owners(self) -> dict[str, Pod]:
        """Who has which shard."""
        pods = {pod.name: pod for pod in self.pods()}
        knows = next(pod for pod in pods.values() if pod.service == "metadata")
        known = json.loads(self.inside(knows, _MAP))["shards"]
        return {shard: pods[owner["pod"]] for shard, owner in known.items()}

    def leader(self) -> Pod:
        """ZooKeeper's, known by the port that only a leader listens on."""
        for pod in self.pods("zookeeper"):
            uid = pod.uid.replace("-", "_")
            script = f"""
                found=$(grep -lsE 'pod({uid}|{pod.uid})' /proc/[0-9]*/cgroup | head -n 1)
                process=${{found%/cgroup}}
                nsenter -t ${{process#/proc/}} -n ss -Hltn 'sport = :{PEER_PORT}'"""
            if self.shell(pod.node, script).strip():
                return pod
        raise MachineError("no ZooKeeper leads")

    def link(self, host: str) -> str:
        """The host's end of a VM's network."""
        state = json.loads(command("incus", "query", f"/1.0/instances/{host}/state"))
        name: str = state["network"]["eth0"]["host_name"]
        return name

    def hardware_address(self, host: str) -> str:
        state = json.loads(command("incus", "query", f"/1.0/instances/{host}/state"))
        address: str = state["network"]["eth0"]["hwaddr"]
        return address

    def unwell(self) -> str:
        """What is not as it should be; empty when nodes, pods and everything stored are well."""
        try:
            listed = json.loads(
                self.kubectl("get", "nodes,pods", "--all-namespaces", "--output=json")
            )["items"]
            ceph = json.loads(self.ask("ceph", "status", "--format=json"))
        except MachineError as error:
            return str(error)
        for item in listed:
            name = item["metadata"]["name"]
            conditions = {one["type"]: one["status"] for one in item["status"]["conditions"]}
            ending = "deletionTimestamp" in item["metadata"]
            if conditions.get(_READY) != "True" or ending:
                return f"{item['kind']} {name} is not ready"
        groups = ceph["pgmap"]
        states = {row["state_name"]: row["count"] for row in groups.get("pgs_by_state", [])}
        if states != {"active+clean": groups["num_pgs"]}:
            return f"placement groups: {states}"
        if ceph["osdmap"]["num_up_osds"] < ceph["osdmap"]["num_osds"]:
            return "an OSD is down"
        if full := {"OSD_FULL", "POOL_FULL"} & ceph["health"]["checks"].keys():
            return ", ".join(sorted(full))
        return ""

    def until_well(self, limit_s: float) -> float:
        """Seconds until all is well. Raises MachineError."""
        began = time.monotonic()
        while problem := self.unwell():
            if time.monotonic() - began > limit_s:
                raise MachineError(f"not well after {limit_s:.0f} s: {problem}")
            time.sleep(1)
        return time.monotonic() - began
