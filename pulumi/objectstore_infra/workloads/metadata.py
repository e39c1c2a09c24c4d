"""The metadata service: three pods, each owner or warm standby of every data shard."""

from __future__ import annotations

from pulumi import Input

from objectstore_infra.workloads import pods, settings
from objectstore_infra.workloads.names import HEALTH_PORT, METADATA, METADATA_PORT, labels

REPLICAS = 3
HAND_OVER_S = 60
SERVICE = pods.Service(
    METADATA,
    pods.Resources(cpu="200m", memory="384Mi", memory_max="1Gi"),
    ports={"metadata": METADATA_PORT, "health": HEALTH_PORT},
    secrets={
        "cluster-tls": settings.CLUSTER_TLS,
        "zookeeper-client-tls": settings.ZOOKEEPER_TLS,
        "master-key": settings.MASTER_KEY,
        "ceph-metadata": settings.CEPH,
    },
    stop_s=HAND_OVER_S,
    data_max="8Gi",
    critical=True,
)


def service() -> pods.Spec:
    """Return the Service that the pods' names hang on; shards are found through ZooKeeper."""
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": labels(METADATA),
        "ports": [{"name": "metadata", "port": METADATA_PORT}],
    }


def stateful_set(image: str, configuration: Input[str], sealed: Input[str]) -> pods.Spec:
    """Return the pods; they are renewed one after the other, each handing its shards over."""
    affinity = pods.one_a_node(METADATA)
    return {
        "serviceName": METADATA,
        "replicas": REPLICAS,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels(METADATA)},
        "template": pods.service_pod(SERVICE, image, configuration, sealed, affinity),
    }


def disruption_budget() -> pods.Spec:
    """One pod at a time: the others own its shards meanwhile."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": labels(METADATA)}}
