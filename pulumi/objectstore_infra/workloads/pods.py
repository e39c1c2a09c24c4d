"""What all pods of a store have in common.

Pods run as a user without rights, on a root file system that cannot be written, with no capability
and the runtime's filter of system calls. Images lie on the nodes, nothing is pulled. A pod of a
node that does not answer is given up after `GIVE_UP_S`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import Input

from objectstore_infra.workloads.names import (
    HEALTH_PORT,
    PRIORITY_CLASS,
    USER_ID,
    described,
    labels,
)

Spec = dict[str, object]
"""A part of an object as Kubernetes' documentation shows it; values may be outputs to come."""

GIVE_UP_S = 5
SECRETS_ANNOTATION = "objectstore/secrets"
CONFIGURATION = "/etc/objectstore/service.toml"
DATA = "/var/lib/objectstore"
SCRATCH = "/tmp"  # noqa: S108 - a volume of the pod's own
HOST = "kubernetes.io/hostname"
START_S_MAX = 120
# Who has not answered for half a minute hears no request to end either.
HUNG_STOP_S = 5
DNS_TIMEOUT_S = 1


@dataclass(frozen=True, slots=True)
class Resources:
    """What a pod asks for, and what it may take; of the processor it may take what there is."""

    cpu: str
    memory: str
    memory_max: str

    def specification(self) -> Spec:
        """Return it as Kubernetes has it."""
        return {
            "requests": {"cpu": self.cpu, "memory": self.memory},
            "limits": {"memory": self.memory_max},
        }


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the store as a pod: `objectstore service NAME`."""

    name: str
    resources: Resources
    ports: Mapping[str, int]
    """Name → port."""
    secrets: Mapping[str, str]
    """Where each Secret is mounted."""
    health_port: int = HEALTH_PORT
    ready_period_s: int = 2
    stop_s: int = 30
    data_max: str = ""
    """How much disk the views may take; empty = none are kept."""
    environment: Sequence[Spec] = ()
    critical: bool = False


def service_pod(
    service: Service, image: str, configuration: Input[str], sealed: Input[str], affinity: Spec
) -> Spec:
    """Return the template of a service's pods.

    `configuration` is the name of its ConfigMap; `sealed` a hash of its Secrets, which makes new
    pods of new Secrets.
    """
    mounts: list[object] = [
        {"name": "configuration", "mountPath": CONFIGURATION, "subPath": "service.toml"},
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "data", "mountPath": DATA},
    ]
    volumes: list[object] = [
        {"name": "configuration", "configMap": {"name": configuration}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}},
        {"name": "data", "emptyDir": {"sizeLimit": service.data_max or "256Mi"}},
    ]
    for name, path in service.secrets.items():
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
        volumes.append(secret_volume(name))
    container: Spec = {
        "name": service.name,
        "args": ["service", service.name, "--config", CONFIGURATION],
        "env": [*_environment(), *service.environment],
        "ports": [{"name": name, "containerPort": port} for name, port in service.ports.items()],
        "resources": service.resources.specification(),
        "volumeMounts": mounts,
        "startupProbe": _probe("live", service.health_port, period_s=1, failures=START_S_MAX),
        "readinessProbe": _probe(
            "ready", service.health_port, period_s=service.ready_period_s, failures=2
        ),
        "livenessProbe": {
            **_probe("live", service.health_port, period_s=5, failures=6),
            "terminationGracePeriodSeconds": HUNG_STOP_S,
        },
    }
    return template(
        service.name,
        [{**container, **contained(image)}],
        volumes,
        sealed,
        affinity=affinity,
        stop_s=service.stop_s,
        critical=service.critical,
    )


def template(
    name: str,
    containers: Sequence[object],
    volumes: Sequence[object],
    sealed: Input[str],
    *,
    affinity: Spec,
    stop_s: int,
    critical: bool,
) -> Spec:
    """Return a template of pods around these containers."""
    gone = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GIVE_UP_S}
    specification: Spec = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": stop_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {"key": f"node.kubernetes.io/{state}", **gone} for state in ("not-ready", "unreachable")
        ],
        # A name server that died with its node is asked no longer than this; by default it is 5 s,
        # twice, and an election of ZooKeeper's waits for it.
        "dnsConfig": {
            "options": [
                {"name": "timeout", "value": f"{DNS_TIMEOUT_S}"},
                {"name": "attempts", "value": "2"},
            ]
        },
        "affinity": affinity,
        "containers": list(containers),
        "volumes": list(volumes),
    }
    if critical:
        specification["priorityClassName"] = PRIORITY_CLASS
    return {
        "metadata": {"labels": described(name), "annotations": {SECRETS_ANNOTATION: sealed}},
        "spec": specification,
    }


def contained(image: str) -> Spec:
    """Return what every container has: its image, and next to no rights."""
    return {
        "image": image,
        "imagePullPolicy": "Never",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def secret_volume(name: str) -> Spec:
    """Return a volume of a Secret that the pod's group may read."""
    return {"name": name, "secret": {"secretName": name, "defaultMode": 0o440}}


def one_a_node(name: str) -> Spec:
    """Never two of these pods on one node."""
    term = {"labelSelector": {"matchLabels": labels(name)}, "topologyKey": HOST}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def spread(name: str) -> Spec:
    """Two of these pods on one node only while there is no other way, as during a renewal."""
    term = {"labelSelector": {"matchLabels": labels(name)}, "topologyKey": HOST}
    weighted = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}


def from_field(variable: str, path: str) -> Spec:
    """Return a variable that tells a pod about itself."""
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def from_secret(variable: str, secret: str, key: str) -> Spec:
    """Return a variable out of a Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _environment() -> list[Spec]:
    return [
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_IP", "status.podIP"),
        from_field("NODE_NAME", "spec.nodeName"),
    ]


def _probe(question: str, port: int, *, period_s: int, failures: int) -> Spec:
    return {
        "httpGet": {"path": f"/_health/{question}", "port": port},
        "periodSeconds": period_s,
        "timeoutSeconds": 2 if period_s > 1 else 1,
        "failureThreshold": failures,
    }
