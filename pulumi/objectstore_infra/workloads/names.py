"""What the objects of a store are called in its cluster, and where they listen.

Each store has a cluster of its own, so that names need not carry the store's. Others rely on all of
these: the nodes' roles, the playbooks, validation.
"""

from __future__ import annotations

NAMESPACE = "objectstore"
REGISTRY = "objectstore.internal"
ZOOKEEPER_VERSION = "3.9.3"

ZOOKEEPER = "zookeeper"
METADATA = "metadata"
IAM = "iam"
OBJECT_CONTROLLER = "object-controller"
ATLAS = "atlas"
UI_GATEWAY = "ui-gateway"
SERVICES = (METADATA, IAM, OBJECT_CONTROLLER, ATLAS)

S3_PORT = 7200
METADATA_PORT = 7201
IAM_PORT = 7202
HEALTH_PORT = 7203
ZOOKEEPER_PORT = 2281

USER_ID = 7200
PRIORITY_CLASS = "objectstore-critical"
LOCAL_STORAGE = "objectstore-local"
NAME_LABEL = "app.kubernetes.io/name"


def labels(name: str) -> dict[str, str]:
    """Return the labels by which a workload's pods are found."""
    return {NAME_LABEL: name}


def described(name: str) -> dict[str, str]:
    """Return the labels of a workload's objects."""
    return {**labels(name), "app.kubernetes.io/part-of": "objectstore"}


def store_image(version: str) -> str:
    """Return the image of the store; a `+` may not stand in a tag."""
    return f"{REGISTRY}/objectstore:{version.replace('+', '_')}"


def zookeeper_image() -> str:
    """Return the image of ZooKeeper."""
    return f"{REGISTRY}/zookeeper:{ZOOKEEPER_VERSION}"


def zookeeper_servers(count: int) -> list[str]:
    """Return the names of ZooKeeper's pods."""
    return [f"{ZOOKEEPER}-{number}" for number in range(count)]
