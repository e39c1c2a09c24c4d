"""What the pods are trusted with: Secrets, made of the files that the platform's roles left.

`Collected` holds those files, path → text, as a secret output of the platform's configuration run.
A hash of what a workload is given goes into its pods' annotations, so that a renewed certificate
reaches them; the hash tells nothing about random keys and is no secret itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pulumi import Output

from objectstore_infra.workloads.names import ATLAS, METADATA, OBJECT_CONTROLLER

CEPH_USERS = (METADATA, OBJECT_CONTROLLER, ATLAS)
KUBECONFIG = "kubeconfig"


def collected_files(store: str) -> list[str]:
    """Return the files of the store's folder that the pods' Secrets are made of."""
    rows = {path for files in _SECRET_FILES.values() for path in files.values()}
    rows |= {_keyring(store, user) for user in CEPH_USERS}
    return sorted({*rows, "ceph/ceph.conf", KUBECONFIG})


@dataclass(frozen=True, slots=True)
class Sealed:
    """All Secrets of a store's pods, by name: file → what it holds, in base64."""

    contents: Mapping[str, Output[dict[str, str]]]

    def hash_of(self, names: Sequence[str]) -> Output[str]:
        """Return a hash of what these Secrets hold."""
        all_of_them = Output.all(**{name: self.contents[name] for name in names})
        return Output.unsecret(all_of_them.apply(_hash))


def seal(
    store: str,
    files: Output[Mapping[str, str]],
    master_key: Output[str],
    access_key: Output[str],
    secret_key: Output[str],
) -> Sealed:
    """Return the Secrets; `files` are the collected ones, `master_key` is base64 already."""
    contents = {
        name: files.apply(partial(_encoded, wanted)) for name, wanted in _SECRET_FILES.items()
    }
    contents["zookeeper-tls"] = files.apply(_zookeeper_server)
    for user in CEPH_USERS:
        wanted = {"ceph.conf": "ceph/ceph.conf", "keyring": _keyring(store, user)}
        contents[f"ceph-{user}"] = files.apply(partial(_encoded, wanted))
    contents["master-key"] = master_key.apply(lambda key: {"master.key": key})
    contents["administrator"] = Output.all(access_key, secret_key).apply(
        lambda keys: {"access-key": _b64(keys[0]), "secret-key": _b64(keys[1])}
    )
    return Sealed({name: Output.secret(content) for name, content in contents.items()})


_SECRET_FILES = {
    "cluster-tls": {
        "ca.pem": "authority/cluster/ca.pem",
        "cert.pem": "authority/cluster/pods.pem",
        "key.pem": "authority/cluster/pods.key",
    },
    "zookeeper-tls": {
        "ca.pem": "authority/zookeeper/ca.pem",
        "cert.pem": "authority/zookeeper/server.pem",
        "key.pem": "authority/zookeeper/server.key",
    },
    "zookeeper-client-tls": {
        "ca.pem": "authority/zookeeper/ca.pem",
        "cert.pem": "authority/zookeeper/client.pem",
        "key.pem": "authority/zookeeper/client.key",
    },
    "clients-tls": {
        "cert.pem": "authority/clients/pods.pem",
        "key.pem": "authority/clients/pods.key",
    },
}


def _zookeeper_server(files: Mapping[str, str]) -> dict[str, str]:
    # Java reads a certificate and its key from one file.
    wanted = _SECRET_FILES["zookeeper-tls"]
    both = files[wanted["key.pem"]] + files[wanted["cert.pem"]]
    return {"server.pem": _b64(both), "ca.pem": _b64(files[wanted["ca.pem"]])}


def _encoded(wanted: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    return {name: _b64(files[path]) for name, path in wanted.items()}


def _keyring(store: str, user: str) -> str:
    return f"ceph/{store}.client.{user}.keyring"


def _hash(contents: Mapping[str, Mapping[str, str]]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
