"""Atlas: one pod that works on what is stored, never two at once."""

from __future__ import annotations

from pulumi import Input

from objectstore_infra.workloads import pods, settings
from objectstore_infra.workloads.names import ATLAS, HEALTH_PORT, labels

SERVICE = pods.Service(
    ATLAS,
    pods.Resources(cpu="50m", memory="128Mi", memory_max="512Mi"),
    ports={"health": HEALTH_PORT},
    secrets={
        "cluster-tls": settings.CLUSTER_TLS,
        "zookeeper-client-tls": settings.ZOOKEEPER_TLS,
        "master-key": settings.MASTER_KEY,
        "ceph-atlas": settings.CEPH,
    },
    data_max="8Gi",
)


def deployment(image: str, configuration: Input[str], sealed: Input[str]) -> pods.Spec:
    """Return the pod; the old one ends before the new one comes."""
    return {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels(ATLAS)},
        "template": pods.service_pod(SERVICE, image, configuration, sealed, {}),
    }
