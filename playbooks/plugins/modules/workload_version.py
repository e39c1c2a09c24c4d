"""Ansible module: the version of the store that the pods of its workloads run.

Reads it, of all that are asked for in one call, since the client of Kubernetes takes seconds to
load; or changes it as the stack's own provider would: by server-side apply, under the name under
which the provider owns the image, so that the stack's next run finds nothing foreign. Pods are
renewed by Kubernetes; this waits until the new ones are ready and says what a pod that does not get
ready says of itself. Runs on the operator's side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    ABSENT = ""
except ImportError as error:
    ABSENT = str(error)

DOCUMENTATION = """
module: workload_version
short_description: Read or change the version that workloads of the store run
description:
  - >-
    Returns what each of O(names) runs as RV(workloads), in their order; where some cannot be read,
    it fails with the others in it.
  - Changes the image of one Deployment or StatefulSet of the store, and waits for its pods.
options:
  kubeconfig:
    description: How to reach the cluster.
    type: path
    required: true
  namespace:
    description: Where the workload is.
    type: str
    default: objectstore
  names:
    description: The workloads, as metadata; one where a version is given.
    type: list
    elements: str
    required: true
  version:
    description: The version that it is to run; empty only reads.
    type: str
    default: ""
  pods:
    description: Of a StatefulSet, how many pods are to run it, from the last one on; 0 is all.
    type: int
    default: 0
  timeout_s:
    description: How long the pods may take to get ready.
    type: int
    default: 180
"""

APPLY = "application/apply-patch+yaml"
POLL_S = 1.0
PASSING = (429, 500, 503, 504)
CALL_TIMEOUT_S = 10
SERVER_MADE = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")
LABEL = "app.kubernetes.io/name"


class RolloutError(Exception):
    """The workload is not there, or its pods do not get ready; the message says why."""


class Workload:
    """One Deployment or StatefulSet, by its name."""

    def __init__(self, api_client: Any, namespace: str, name: str) -> None:
        """Raises RolloutError when neither is called so."""
        self._api_client = api_client
        self._core = client.CoreV1Api(api_client)
        self._where = name, namespace
        apps = client.AppsV1Api(api_client)
        for kind in ("stateful_set", "deployment"):
            self.is_stateful = kind == "stateful_set"
            self._read = getattr(apps, f"read_namespaced_{kind}")
            try:
                self.found = self._read(*self._where, _request_timeout=CALL_TIMEOUT_S)
            except ApiException as error:
                if error.status != 404:
                    raise
            else:
                return
        raise RolloutError(f"there is no workload {name} in the namespace {namespace}")

    @property
    def image(self) -> str:
        return str(self.found.spec.template.spec.containers[0].image)

    @property
    def version(self) -> str:
        """What new pods run."""
        return version_of(self.image)

    @property
    def running(self) -> str:
        """What the pods run; while some of them are renewed, what the others still run."""
        found = {
            version_of(pod.spec.containers[0].image)
            for pod in self._pods()
            if not pod.metadata.deletion_timestamp
        }
        return min(found - {self.version}, default=self.version)

    @property
    def partition(self) -> int:
        """The first pod of a StatefulSet that is renewed."""
        strategy = self.found.spec.update_strategy if self.is_stateful else None
        rolling = strategy.rolling_update if strategy else None
        return int((rolling.partition if rolling else 0) or 0)

    @property
    def is_whole(self) -> bool:
        """Whether all pods run the version: no upgrade stopped on its way."""
        renewed = self.found.status.updated_replicas or 0
        return not self.partition and renewed == (self.found.spec.replicas or 0)

    def apply(self, image: str, partition: int) -> None:
        """Set the image, and where the renewal begins."""
        body = self._api_client.sanitize_for_serialization(self.found)
        body.pop("status", None)
        owner = manager(body["metadata"])
        for key in SERVER_MADE:
            body["metadata"].pop(key, None)
        body["apiVersion"] = "apps/v1"
        body["kind"] = "StatefulSet" if self.is_stateful else "Deployment"
        body["spec"]["template"]["spec"]["containers"][0]["image"] = image
        if self.is_stateful:
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
            body["spec"]["updateStrategy"] = rolling
        kind = body["kind"]
        # The client's own methods know no server-side apply.
        self.found = self._api_client.call_api(
            f"/apis/apps/v1/namespaces/{self._where[1]}/{kind.lower()}s/{self._where[0]}",
            "PATCH",
            query_params=[("fieldManager", owner), ("force", "true")],
            header_params={"Content-Type": APPLY, "Accept": "application/json"},
            body=body,
            response_type=f"V1{kind}",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=CALL_TIMEOUT_S,
        )

    def wait(self, timeout_s: float) -> None:
        """Until every pod is ready and those to be renewed are. Raises RolloutError."""
        deadline = time.monotonic() + timeout_s
        while not self._is_done():
            if time.monotonic() > deadline:
                name = self._where[0]
                raise RolloutError(
                    f"{name} is not ready with {self.version} after {timeout_s:.0f} s: "
                    f"{'; '.join(self._unready()) or 'its pods are ready, not all are renewed'}"
                )
            time.sleep(POLL_S)
            try:
                self.found = self._read(*self._where, _request_timeout=CALL_TIMEOUT_S)
            except HTTPError:
                continue  # an API server may be away for a moment
            except ApiException as error:
                if error.status not in PASSING:
                    raise

    def _is_done(self) -> bool:
        status, spec = self.found.status, self.found.spec
        if (status.observed_generation or 0) < self.found.metadata.generation:
            return False
        wanted = spec.replicas or 0
        if self.is_stateful:
            renewed = (status.updated_replicas or 0) >= wanted - self.partition
            return renewed and (status.available_replicas or 0) == wanted
        counts = (status.replicas, status.updated_replicas, status.available_replicas)
        return all((count or 0) == wanted for count in counts)

    def _unready(self) -> list[str]:
        return [self._reason(pod) for pod in self._pods() if not is_ready(pod)]

    def _pods(self) -> list[Any]:
        name, namespace = self._where
        selector = f"{LABEL}={name}"
        found = self._core.list_namespaced_pod(
            namespace, label_selector=selector, _request_timeout=CALL_TIMEOUT_S
        )
        return list(found.items)

    def _reason(self, pod: Any) -> str:
        """Why a pod is not ready: what keeps its container, else what it says of its health."""
        called = f"pod {pod.metadata.name} on {pod.spec.node_name or 'no node'}"
        for container in pod.status.container_statuses or []:
            waiting = container.state.waiting if container.state else None
            if waiting:
                return f"{called}: {waiting.reason} {waiting.message or ''}".strip()
        probe = pod.spec.containers[0].readiness_probe
        if probe is None or probe.http_get is None:
            return f"{called}: {pod.status.phase}"
        target = f"{pod.metadata.name}:{probe.http_get.port}"
        try:
            said = self._core.connect_get_namespaced_pod_proxy_with_path(
                target,
                pod.metadata.namespace,
                probe.http_get.path.lstrip("/"),
                _request_timeout=CALL_TIMEOUT_S,
            )
        except ApiException as error:
            said = error.body
        except HTTPError as error:
            said = str(error)
        return f"{called} is not ready: {' '.join(str(said).split())}"


def version_of(image: str) -> str:
    """The image's tag, in which a `+` reads `_`."""
    return image.rpartition(":")[2].replace("_", "+")


def is_ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return any(found.type == "Ready" and found.status == "True" for found in conditions)


def manager(metadata: dict[str, Any]) -> str:
    """Who applied the workload: the provider, whatever it calls itself."""
    applied = [
        field["manager"]
        for field in metadata.get("managedFields", [])
        if field.get("operation") == "Apply"
    ]
    return str(applied[0]) if applied else "objectstore-upgrade"


def facts(workload: Workload, name: str) -> dict[str, Any]:
    """What an upgrade is planned from."""
    return {
        "name": name,
        "running": workload.running,
        "pods": int(workload.found.spec.replicas or 0),
        "pods_ready": int(workload.found.status.ready_replicas or 0),
        "stateful": workload.is_stateful,
        "whole": workload.is_whole,
    }


def looked_at(
    names: Sequence[str], workload_of: Callable[[str], Workload]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The facts of each workload that can be read, and why the others cannot. Once nothing answers,
    nobody else is asked.
    """
    found: list[dict[str, Any]] = []
    lacking: list[str] = []
    for name in names:
        try:
            found.append(facts(workload_of(name), name))
        except (ApiException, RolloutError) as error:
            lacking.append(f"{name}: {error}")
        except (HTTPError, OSError) as error:
            lacking.append(f"{name}: {error}")
            break
    return found, lacking


def changed_to(workload: Workload, version: str, pods: int, timeout_s: float) -> bool:
    """Bring so many pods to the version, and wait for them. Raises RolloutError."""
    image = f"{workload.image.rpartition(':')[0]}:{version.replace('+', '_')}"
    replicas = int(workload.found.spec.replicas or 0)
    partition = max(0, replicas - pods) if workload.is_stateful and pods else 0
    if workload.image == image and workload.partition <= partition:
        workload.wait(timeout_s)
        return False
    workload.apply(image, partition)
    workload.wait(timeout_s)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "required": True},
            "namespace": {"type": "str", "default": "objectstore"},
            "names": {"type": "list", "elements": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "pods": {"type": "int", "default": 0},
            "timeout_s": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    if ABSENT:
        module.fail_json(msg=f"the client of Kubernetes is not installed here: {ABSENT}")
    given = module.params
    names, version = given["names"], given["version"]
    if version and len(names) != 1:
        module.fail_json(msg=f"one workload is changed at a time, not {', '.join(names) or 'none'}")
    try:
        api_client = config.new_client_from_config(given["kubeconfig"])
    except (config.ConfigException, OSError) as error:
        module.fail_json(msg=str(error), workloads=[])

    def workload_of(name: str) -> Workload:
        return Workload(api_client, given["namespace"], name)

    if not version:
        found, lacking = looked_at(names, workload_of)
        if lacking:
            module.fail_json(msg="; ".join(lacking), workloads=found)
        module.exit_json(changed=False, workloads=found)
    try:
        workload = workload_of(names[0])
        before = facts(workload, names[0])
        changed = version != workload.version
        if not module.check_mode:
            changed = changed_to(workload, version, given["pods"], given["timeout_s"])
    except (ApiException, HTTPError, RolloutError, OSError) as error:
        module.fail_json(msg=f"{names[0]}: {error}")
    diff = {"before": f"{before['running']}\n", "after": f"{version}\n"}
    module.exit_json(changed=changed, workloads=[before], diff=diff)


if __name__ == "__main__":
    main()
