"""Ansible module: nodes, pods and shards of the store's cluster, in one look.

Runs on a node of the control plane. Changes nothing and judges nothing: gates and the health check
conclude from the same facts. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kubernetes import CommandError, kubectl

DOCUMENTATION = """
module: cluster_gate
short_description: Nodes, pods and shards of the store's cluster
description:
  - >-
    Looks at the cluster's nodes and workloads, and in each pod that can own shards, which it
    owns and whom it takes for the owner of the others.
  - Changes nothing. What could not be looked at is said in RV(error).
options:
  namespace:
    description: The store's namespace.
    type: str
    default: objectstore
  shard_services:
    description: Names of the services whose pods own shards.
    type: list
    elements: str
    default: [metadata, iam]
"""

CALL_TIMEOUT_S = 15
ASKED_AT_ONCE_MAX = 8
KINDS = ("nodes", "deployments", "statefulsets", "daemonsets", "pods")
SYSTEM = "kube-system"
NAME_LABEL = "app.kubernetes.io/name"
RUN = "/var/lib/objectstore/run"
# Prints the pod's copy of the shard map, which a pod that starts has not got yet, the epochs of the
# shards it has, 0 being a standby's, and how many data shards the store was told to have.
LOOK = f"""
import glob, json, os, tomllib
path = "{RUN}/map.json"
known = json.load(open(path)) if os.path.exists(path) else {{"shards": {{}}}}
held = {{os.path.basename(f)[:-5]: open(f, "rb").read(8).hex() for f in glob.glob("{RUN}/*.held")}}
told = tomllib.load(open("/etc/objectstore/service.toml", "rb"))
print(json.dumps({{"map": known, "held": held, "data_shards": told["shards"]}}))
"""
EPOCH = struct.Struct("<Q")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str", "default": "objectstore"},
            "shard_services": {
                "type": "list",
                "elements": "str",
                "default": ["metadata", "iam"],
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        everything = asked("get", ",".join(KINDS), "--all-namespaces")
    except (CommandError, ValueError) as error:
        module.exit_json(
            changed=False, error=str(error), nodes=[], workloads=[], pods=[], shards=[]
        )
    nodes, pods, workloads = parted(everything)
    ours = {params["namespace"], SYSTEM}
    of_shards = {
        pod["metadata"]["name"]: pod["spec"].get("nodeName", "")
        for pod in pods
        if pod["metadata"]["namespace"] == params["namespace"]
        and pod["metadata"].get("labels", {}).get(NAME_LABEL) in params["shard_services"]
    }
    known = [node_facts(node) for node in nodes]
    module.exit_json(
        changed=False,
        error="",
        nodes=known,
        workloads=[workload_facts(one) for one in workloads if namespace_of(one) in ours],
        pods=[pod_facts(pod) for pod in pods if namespace_of(pod) in ours],
        shards=shards_facts(
            params["namespace"], of_shards, {node["name"] for node in known if node["ready"]}
        ),
    )


def asked(*argv: str) -> list[dict[str, Any]]:
    """The items of kubectl's answer. Raises: CommandError, ValueError."""
    text = kubectl(*argv, "--output=json", timeout_s=CALL_TIMEOUT_S)
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


def parted(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], ...]:
    """The nodes, the pods, and the rest, which are workloads."""
    nodes = [item for item in items if item["kind"] == "Node"]
    pods = [item for item in items if item["kind"] == "Pod"]
    return nodes, pods, [item for item in items if item["kind"] not in ("Node", "Pod")]


def namespace_of(item: dict[str, Any]) -> str:
    name: str = item["metadata"]["namespace"]
    return name


def node_facts(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {one["type"]: one for one in node["status"].get("conditions", [])}
    ready = conditions.get("Ready", {})
    return {
        "name": node["metadata"]["name"],
        "ready": ready.get("status") == "True",
        "reason": ready.get("message", "it has not reported"),
        "schedulable": not node["spec"].get("unschedulable", False),
        "version": node["status"].get("nodeInfo", {}).get("kubeletVersion", ""),
    }


def workload_facts(item: dict[str, Any]) -> dict[str, Any]:
    """How many pods there should be, how many are ready, how many are of the newest kind, and how
    many an upgrade holds back from it.
    """
    spec, status = item["spec"], item.get("status", {})
    daemons = item["kind"] == "DaemonSet"
    wanted = status.get("desiredNumberScheduled", 0) if daemons else spec.get("replicas", 1)
    current = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
    updated = status.get("updatedNumberScheduled" if daemons else "updatedReplicas", 0)
    return {
        "namespace": item["metadata"]["namespace"],
        "name": item["metadata"]["name"],
        "kind": item["kind"],
        "wanted": wanted,
        "ready": status.get("numberReady" if daemons else "readyReplicas", 0),
        "updated": updated if current else 0,
        "held_back": spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0),
    }


def pod_facts(pod: dict[str, Any]) -> dict[str, Any]:
    """`reason` says why a pod is not ready, as far as Kubernetes knows."""
    status = pod.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    waiting = [
        one["state"]["waiting"].get("reason", "")
        for one in status.get("containerStatuses", [])
        if "waiting" in one.get("state", {})
    ]
    ending = "deletionTimestamp" in pod["metadata"]
    said = "ending" if ending else ", ".join(waiting) or ready.get("message", "")
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "service": pod["metadata"].get("labels", {}).get(NAME_LABEL, ""),
        "node": pod["spec"].get("nodeName", ""),
        "ready": ready.get("status") == "True" and not ending,
        "done": is_over(pod),
        "reason": said or status.get("phase", "unknown"),
        "restarts": sum(one.get("restartCount", 0) for one in status.get("containerStatuses", [])),
    }


def is_over(pod: dict[str, Any]) -> bool:
    """Whether nothing is to be expected of the pod: it came to its end, or it failed, as one that
    was evicted, and its workload makes another. Nobody does that for a pod that a node's own file
    declares, whose owner is the node.
    """
    phase = pod.get("status", {}).get("phase")
    owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])}
    return phase == "Succeeded" or (phase == "Failed" and bool(owners - {"Node"}))


def shards_facts(namespace: str, pods: dict[str, str], ready: set[str]) -> list[dict[str, Any]]:
    """What each of the `pods`, which are on those nodes, says, asked at the same time: shards may
    move between two looks. Those on nodes that are not ready would keep us waiting.
    """

    def asked_of(pod: str) -> dict[str, Any]:
        node = pods[pod]
        if node and node not in ready:
            return silent(pod, f"its node {node} is not ready")
        return shard_facts(namespace, pod)

    with ThreadPoolExecutor(max_workers=ASKED_AT_ONCE_MAX) as threads:
        return list(threads.map(asked_of, sorted(pods)))


def shard_facts(namespace: str, pod: str) -> dict[str, Any]:
    """What a pod says: `held` are the epochs of shards it owns, 0 for those it follows."""
    command = ("exec", f"--namespace={namespace}", pod, "--", "/usr/bin/python3", "-S", "-c", LOOK)
    try:
        said = json.loads(kubectl(*command, timeout_s=CALL_TIMEOUT_S))
    except (CommandError, ValueError) as error:
        return silent(pod, str(error))
    held = {name: EPOCH.unpack(bytes.fromhex(text))[0] for name, text in said["held"].items()}
    shards, count = said["map"]["shards"], said["data_shards"]
    return {"pod": pod, "error": "", "held": held, "map": shards, "data_shards": count}


def silent(pod: str, error: str) -> dict[str, Any]:
    return {"pod": pod, "error": error, "held": {}, "map": {}, "data_shards": 0}


if __name__ == "__main__":
    main()
