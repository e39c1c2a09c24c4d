"""People, keys and the directory of buckets: two pods, one of which owns the directory's shard."""

from __future__ import annotations

from pulumi import Input

from objectstore_infra.workloads import pods, settings
from objectstore_infra.workloads.names import HEALTH_PORT, IAM, IAM_PORT, labels

REPLICAS = 2
SERVICE = pods.Service(
    IAM,
    pods.Resources(cpu="50m", memory="128Mi", memory_max="384Mi"),
    ports={"iam": IAM_PORT, "health": HEALTH_PORT},
    secrets={
        "cluster-tls": settings.CLUSTER_TLS,
        "zookeeper-client-tls": settings.ZOOKEEPER_TLS,
        "master-key": settings.MASTER_KEY,
        "ceph-metadata": settings.CEPH,
    },
    stop_s=60,
    data_max="2Gi",
    environment=(
        pods.from_secret("OBJECTSTORE_ROOT_ACCESS_KEY", "administrator", "access-key"),
        pods.from_secret("OBJECTSTORE_ROOT_SECRET_KEY", "administrator", "secret-key"),
    ),
    critical=True,
)


def deployment(image: str, configuration: Input[str], sealed: Input[str]) -> pods.Spec:
    """Return the pods; a new one is ready before an old one goes."""
    return {
        "replicas": REPLICAS,
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": labels(IAM)},
        "template": pods.service_pod(SERVICE, image, configuration, sealed, pods.spread(IAM)),
    }


def disruption_budget() -> pods.Spec:
    """One pod at a time."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": labels(IAM)}}
