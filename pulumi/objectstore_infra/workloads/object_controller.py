"""The front ends: they speak S3 and hold nothing; Envoy reaches each by its own address."""

from __future__ import annotations

from pulumi import Input

from objectstore_infra.workloads import pods, settings
from objectstore_infra.workloads.names import OBJECT_CONTROLLER, S3_PORT, labels

AVAILABLE_MIN = 2
SERVICE = pods.Service(
    OBJECT_CONTROLLER,
    pods.Resources(cpu="200m", memory="384Mi", memory_max="1Gi"),
    ports={"s3": S3_PORT},
    secrets={
        "cluster-tls": settings.CLUSTER_TLS,
        "zookeeper-client-tls": settings.ZOOKEEPER_TLS,
        "master-key": settings.MASTER_KEY,
        "clients-tls": settings.CLIENTS_TLS,
        "ceph-object-controller": settings.CEPH,
    },
    health_port=S3_PORT,
    ready_period_s=1,
    stop_s=60,
    environment=(
        pods.from_secret("OBJECTSTORE_ROOT_ACCESS_KEY", "administrator", "access-key"),
        pods.from_secret("OBJECTSTORE_ROOT_SECRET_KEY", "administrator", "secret-key"),
    ),
)


def service() -> pods.Spec:
    """Return the Service whose endpoints Envoy's list follows."""
    return {
        "selector": labels(OBJECT_CONTROLLER),
        "ports": [{"name": "s3", "port": S3_PORT}],
    }


def deployment(
    replicas: int, image: str, configuration: Input[str], sealed: Input[str]
) -> pods.Spec:
    """Return the pods, one on each node: those of a node that dies do not crowd the others.

    They are renewed one after the other; requests go to the rest meanwhile.
    """
    affinity = pods.one_a_node(OBJECT_CONTROLLER)
    return {
        "replicas": replicas,
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "selector": {"matchLabels": labels(OBJECT_CONTROLLER)},
        "template": pods.service_pod(SERVICE, image, configuration, sealed, affinity),
    }


def disruption_budget() -> pods.Spec:
    """Two front ends carry on while a node is away."""
    return {"minAvailable": AVAILABLE_MIN, "selector": {"matchLabels": labels(OBJECT_CONTROLLER)}}
