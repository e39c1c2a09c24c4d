"""The kinds of Kubernetes objects that the program may declare.

Whatever is not in the table is refused by name. `fixed` holds paths that the API server never lets
change; a change of one replaces the object. `waits` says that an object is only made when the
cluster has brought it to what it says (`readiness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from objectstore_infra.errors import InfraError

IDENTITY = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: `api` is `v1` or GROUP/VERSION, `plural` its name in paths."""

    api: str
    name: str
    plural: str
    namespaced: bool = True
    fixed: tuple[str, ...] = ()
    """Paths; everything below one counts as it."""
    changeable: tuple[str, ...] = ()
    """Exceptions below `fixed`."""
    waits: bool = False
    owns_pods: bool = False

    def path(self, namespace: str, name: str = "") -> str:
        """Return where such an object, or all of a namespace, lies in the API."""
        root = f"/api/{self.api}" if "/" not in self.api else f"/apis/{self.api}"
        within = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")

    def is_fixed(self, path: str) -> bool:
        """Say whether a change at this path needs another object."""
        if any(_lies_in(path, free) for free in self.changeable):
            return False
        return any(_lies_in(path, fixed) for fixed in (*IDENTITY, *self.fixed))


def kind_of(token: str) -> Kind:
    """Return the kind that a Pulumi type stands for. Raises InfraError when it is none of ours."""
    if token in _BY_TOKEN:
        return _BY_TOKEN[token]
    known = ", ".join(sorted(kind.name for kind in _KINDS))
    raise InfraError(
        f"the embedded engine's Kubernetes provider has no {token}",
        hint=f"use the pulumi command, or one of {known}",
    )


def object_id(kind: Kind, inputs: Mapping[str, object]) -> tuple[str, str]:
    """Return namespace (empty where there is none) and name that the inputs give."""
    metadata = inputs.get("metadata")
    if not isinstance(metadata, Mapping):
        return "", ""
    namespace = str(metadata.get("namespace") or "default") if kind.namespaced else ""
    return namespace, str(metadata.get("name") or "")


def _lies_in(path: str, parent: str) -> bool:
    return path == parent or path.startswith((f"{parent}.", f"{parent}["))


_KINDS = (
    Kind("v1", "Namespace", "namespaces", namespaced=False, waits=True),
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("v1", "Secret", "secrets", fixed=("type",)),
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("v1", "Service", "services", fixed=("spec.clusterIP",)),
    Kind(
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        namespaced=False,
        fixed=("spec.local", "spec.nodeAffinity", "spec.volumeMode"),
    ),
    Kind(
        "apps/v1",
        "Deployment",
        "deployments",
        fixed=("spec.selector",),
        waits=True,
        owns_pods=True,
    ),
    Kind(
        "apps/v1",
        "StatefulSet",
        "statefulsets",
        fixed=("spec",),
        changeable=(
            "spec.replicas",
            "spec.template",
            "spec.updateStrategy",
            "spec.minReadySeconds",
            "spec.ordinals",
            "spec.revisionHistoryLimit",
            "spec.persistentVolumeClaimRetentionPolicy",
        ),
        waits=True,
        owns_pods=True,
    ),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", waits=True),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", fixed=("roleRef",)),
    Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    Kind(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        namespaced=False,
        fixed=("roleRef",),
    ),
    Kind(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        "priorityclasses",
        namespaced=False,
        fixed=("value", "preemptionPolicy"),
    ),
    Kind(
        "storage.k8s.io/v1",
        "StorageClass",
        "storageclasses",
        namespaced=False,
        fixed=("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    ),
)

PODS = Kind("v1", "Pod", "pods")
EVENTS = Kind("v1", "Event", "events")
# Pulumi's types say `core/v1` where the API says `v1`.
_BY_TOKEN = {
    f"kubernetes:{'core/v1' if kind.api == 'v1' else kind.api}:{kind.name}": kind for kind in _KINDS
}
