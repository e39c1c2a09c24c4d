"""The description of a store's nodes that Ansible and the validation read. Pure.

Ansible's dynamic-inventory JSON: groups `default` and `envoy`, each host's connection and
`objectstore_vm`, and the store's own variables under `all`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, TypeVar

from objectstore_infra.spec import StoreSpec, VmSpec
from objectstore_infra.state_folder import KNOWN_HOSTS, PRIVATE_KEY

# The address of the cluster's DNS service within the services' network, as kubeadm has it.
CLUSTER_DNS_HOST = 10
API_PORT = 6443
Key = TypeVar("Key")


class VmRecord(TypedDict):
    """One machine as outputs and inventory show it."""

    name: str
    vcpu: int
    cores_per_socket: int
    memory_mib: int
    addresses: list[str]


def vm_record(vm: VmSpec) -> VmRecord:
    """Return what outputs and inventory say of a machine."""
    return {
        "name": vm.name,
        "vcpu": vm.vcpu,
        "cores_per_socket": vm.cores_per_socket,
        "memory_mib": vm.memory_mib,
        "addresses": [str(vm.address)],
    }


def ceph_fsid(owner: str) -> str:
    """Return the id of the store's Ceph cluster: always the same for the same owner."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"objectstore:{owner}"))


def management_endpoint(spec: StoreSpec) -> str:
    """Return where the API of the store's Kubernetes answers."""
    return f"https://{spec.plan.management}:{API_PORT}"


def build(spec: StoreSpec, owner: str, folder: Path) -> dict[str, object]:
    """Return the inventory without secrets.

    `owner` is the owner string of all that is made; `folder` holds the store's key and known hosts.
    """
    vms = spec.vms()
    plan = spec.plan
    ssh = f"-o UserKnownHostsFile={folder / KNOWN_HOSTS} -o StrictHostKeyChecking=accept-new"
    hosts = {
        vm.name: {
            "ansible_host": str(vm.address),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(folder / PRIVATE_KEY),
            "ansible_ssh_common_args": ssh,
            "objectstore_vm": vm_record(vm),
        }
        for vm in vms
    }
    variables = {
        "objectstore_name": spec.name,
        "objectstore_domain": spec.domain,
        "objectstore_version": spec.version,
        "objectstore_client_addresses": [str(address) for address in plan.clients],
        "objectstore_infrastructure_addresses": [str(ip) for ip in plan.infrastructure],
        "objectstore_dns_address": str(plan.dns),
        "objectstore_management_address": str(plan.management),
        "objectstore_gateway": str(plan.gateway),
        "objectstore_pod_network": str(spec.pod_network),
        "objectstore_service_network": str(spec.service_network),
        "objectstore_cluster_dns": str(spec.service_network[CLUSTER_DNS_HOST]),
        "objectstore_ceph_fsid": ceph_fsid(owner),
        "objectstore_encryption": spec.encryption,
        "objectstore_compression": spec.compression,
    }
    return {
        "_meta": {"hostvars": hosts},
        "all": {"children": ["default", "envoy"], "vars": variables},
        "default": {"hosts": [vm.name for vm in vms if vm.role == "default"]},
        "envoy": {"hosts": [vm.name for vm in vms if vm.role == "envoy"]},
    }


def with_keys(
    inventory: Mapping[str, object], access_key: Key, secret_key: Key
) -> dict[str, object]:
    """Return the inventory with the administrator's keys, which may be outputs still to come."""
    everybody = inventory["all"]
    if not isinstance(everybody, Mapping):
        raise TypeError("not an inventory: `all` is no mapping")
    keys = {"objectstore_root_access_key": access_key, "objectstore_root_secret_key": secret_key}
    return {**inventory, "all": {**everybody, "vars": {**everybody["vars"], **keys}}}


def fingerprint(inventory: Mapping[str, object]) -> str:
    """Return a hash that changes whenever the inventory does."""
    return hashlib.sha256(json.dumps(inventory, sort_keys=True).encode()).hexdigest()
