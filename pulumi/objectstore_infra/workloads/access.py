"""Service accounts, and what they may ask Kubernetes' API: least rights, most of them none.

`endpoints` is the load balancers' (which pods there are), with a token that does not expire by
itself. `deployers` is the group that the kubeconfig for the namespace alone belongs to. Pods get no
token at all.
"""

from __future__ import annotations

from objectstore_infra.workloads.names import (
    ATLAS,
    IAM,
    METADATA,
    NAMESPACE,
    OBJECT_CONTROLLER,
    UI_GATEWAY,
    ZOOKEEPER,
)
from objectstore_infra.workloads.pods import Spec

RBAC = "rbac.authorization.k8s.io"
ENDPOINTS = "endpoints"
POD_ACCOUNTS = (OBJECT_CONTROLLER, METADATA, ATLAS, IAM, ZOOKEEPER, UI_GATEWAY)
TOKEN_ACCOUNTS = (ENDPOINTS,)
DEPLOYERS = "objectstore:deployers"
_LOOK = ["get", "list", "watch"]

ROLES: dict[str, list[Spec]] = {
    ENDPOINTS: [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _LOOK}
    ],
}


def account(name: str) -> Spec:
    """Return who holds a role."""
    return {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}


def role(kind: str, name: str) -> Spec:
    """Return what a binding binds to."""
    return {"apiGroup": RBAC, "kind": kind, "name": name}


def deployers() -> list[Spec]:
    """Return who may change everything in the namespace."""
    return [{"apiGroup": RBAC, "kind": "Group", "name": DEPLOYERS}]
