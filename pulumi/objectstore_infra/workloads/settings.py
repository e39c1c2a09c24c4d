"""`service.toml`: what each service of the store is told. Its keys are `objectstore_app`'s.

One file a service, since each has a Ceph user of its own; what differs between the pods of one
service comes from their environment. A ConfigMap carries a hash of what it holds in its name: a
change makes another one, and so other pods, which can be rolled back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from objectstore_infra.spec import StoreSpec
from objectstore_infra.workloads import pods, zookeeper
from objectstore_infra.workloads.names import (
    HEALTH_PORT,
    IAM,
    IAM_PORT,
    METADATA_PORT,
    OBJECT_CONTROLLER,
    S3_PORT,
    ZOOKEEPER,
    ZOOKEEPER_PORT,
    zookeeper_servers,
)

SHARDS = 3
REGION = "us-east-1"
SECRETS = "/etc/objectstore"
CLUSTER_TLS = f"{SECRETS}/tls"
ZOOKEEPER_TLS = f"{SECRETS}/zookeeper"
MASTER_KEY = f"{SECRETS}/master"
CLIENTS_TLS = f"{SECRETS}/clients"
CEPH = "/etc/ceph"
# Envoy sees within this time that a pod wants no more requests.
DRAIN_S = 5.0
NAME_HASH_LENGTH = 10


def service_toml(spec: StoreSpec, service: str) -> str:
    """Return the file of one service."""
    values: dict[str, object] = {
        "store": spec.name,
        "region": REGION,
        "domain": [f"{spec.name}.{spec.domain}"],
        "shards": SHARDS,
        "data": pods.DATA,
        "listen": f"0.0.0.0:{S3_PORT}",
        "cluster_listen": f"0.0.0.0:{IAM_PORT if service == IAM else METADATA_PORT}",
        "health_listen": f"0.0.0.0:{HEALTH_PORT}",
        "zookeeper": [
            f"{name}.{ZOOKEEPER}:{ZOOKEEPER_PORT}" for name in zookeeper_servers(zookeeper.SERVERS)
        ],
        **_files("cluster", CLUSTER_TLS),
        **_files("zookeeper", ZOOKEEPER_TLS),
        "master_key": f"{MASTER_KEY}/master.key",
        "ceph_conf": f"{CEPH}/ceph.conf",
        "ceph_client": f"client.{ceph_user(service)}",
    }
    if service == OBJECT_CONTROLLER:
        values |= {
            "tls_cert": f"{CLIENTS_TLS}/cert.pem",
            "tls_key": f"{CLIENTS_TLS}/key.pem",
            "drain_grace": DRAIN_S,
            "encryption": spec.encryption,
            "compression": spec.compression,
        }
    pools = {kind: f"{spec.name}.{kind}" for kind in ("log", "open", "cold")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    lines += ["", "[ceph_pools]", *(f"{key} = {json.dumps(name)}" for key, name in pools.items())]
    return "\n".join(lines) + "\n"


def ceph_user(service: str) -> str:
    """Return whose rights a service has in Ceph; the directory's shard is one like the others."""
    return "metadata" if service == IAM else service


def hashed_name(name: str, files: Mapping[str, str]) -> str:
    """Return the name of the ConfigMap with these files."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:NAME_HASH_LENGTH]}"


def _files(group: str, folder: str) -> dict[str, object]:
    return {
        f"{group}_ca": f"{folder}/ca.pem",
        f"{group}_cert": f"{folder}/cert.pem",
        f"{group}_key": f"{folder}/key.pem",
    }
