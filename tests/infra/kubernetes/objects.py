"""Objects for the tests, and a kubelet that only writes what pods are said to be."""

from __future__ import annotations

from typing import Any

from kubernetes import client

from objectstore_infra.provider.kubernetes.api import Cluster
from objectstore_infra.provider.kubernetes.kinds import Kind, kind_of
from objectstore_infra.provider.values import Record

NAMESPACE = kind_of("kubernetes:core/v1:Namespace")
CONFIG_MAP = kind_of("kubernetes:core/v1:ConfigMap")
SECRET = kind_of("kubernetes:core/v1:Secret")
DEPLOYMENT = kind_of("kubernetes:apps/v1:Deployment")
STATEFUL_SET = kind_of("kubernetes:apps/v1:StatefulSet")
BUDGET = kind_of("kubernetes:policy/v1:PodDisruptionBudget")


def named(kind: Kind, name: str, namespace: str, **members: Any) -> Record:
    """An object's inputs."""
    metadata: dict[str, Any] = {"name": name} | ({"namespace": namespace} if namespace else {})
    metadata |= members.pop("metadata", {})
    return {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata, **members}


def workload(kind: Kind, name: str, namespace: str, *, replicas: int = 1, **more: Any) -> Record:
    """A Deployment or StatefulSet of one container."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": more.pop("image", "none:1")}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind is STATEFUL_SET:
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return named(kind, name, namespace, spec=spec, **more)


class Kubelet:
    """Writes the status of pods, as the node's agent would, and has an operator's hands."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = client.CoreV1Api(cluster._client)
        self._cluster = cluster

    def start_pods(self, namespace: str, app: str) -> int:
        """Say of all pods that they run and are ready; gives their number."""
        pods = self._cluster.pods(namespace, {"app": app})
        for pod in pods:
            self._status(pod, {"phase": "Running", "conditions": [_condition("Ready", "True")]})
        return len(pods)

    def fail_pods(self, namespace: str, app: str, reason: str, message: str) -> None:
        """Say of all pods that their container cannot be started."""
        waiting = {"waiting": {"reason": reason, "message": message}}
        container = {"name": "main", "state": waiting, "ready": False, "restartCount": 0}
        container |= {"image": "none:1", "imageID": ""}
        for pod in self._cluster.pods(namespace, {"app": app}):
            self._status(pod, {"phase": "Pending", "containerStatuses": [container]})

    def delete_config_map(self, name: str, namespace: str) -> None:
        """Delete one, as an operator would by hand."""
        self._api.delete_namespaced_config_map(name, namespace)

    def take_from_config_map(self, name: str, namespace: str, key: str) -> None:
        """Remove one entry, as an operator would by hand."""
        self._api.patch_namespaced_config_map(name, namespace, {"data": {key: None}})

    def _status(self, pod: Any, status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        self._api.patch_namespaced_pod_status(
            metadata["name"], metadata["namespace"], {"status": status}
        )


def _condition(kind: str, status: str) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": "2020-01-01T00:00:00Z"}
