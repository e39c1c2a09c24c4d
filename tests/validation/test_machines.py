"""Names, sizes and addresses of the VMs, and the store's books about them."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.promise("D1", "D2", "D5", "D9")

MIB = 1 << 20
MEMORY_SHARE_MIN = 0.9
INFRASTRUCTURE_ADDRESSES = 18
CLIENT_ADDRESSES_MIN = 4
LIMIT_FILES = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"


def test_a_vm_carries_the_stores_prefix_and_its_own_name(store, shells, node):
    assert node.startswith((f"{store.name}-default-", f"{store.name}-envoy-"))
    assert shells[node].check_output("hostname") == node


def test_default_vms_count_from_0_and_envoys_from_1(store):
    defaults, envoys = store.hosts("default"), store.hosts("envoy")
    assert defaults == [f"{store.name}-default-{n}" for n in range(len(defaults))]
    assert envoys == [f"{store.name}-envoy-{n + 1}" for n in range(len(envoys))]


def test_a_vm_has_its_processors(store, shells, node):
    promised = store.variables(node)["objectstore_vm"]["vcpu"]
    seen = int(shells[node].check_output("nproc"))
    # A container may be promised more than this machine has; it then sees what there is.
    assert seen == promised or seen == os.cpu_count() < promised


def test_a_vm_has_its_memory(store, shells, node):
    promised = store.variables(node)["objectstore_vm"]["memory_mib"] * MIB
    total = int(shells[node].check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    limits = shells[node].run(f"cat {LIMIT_FILES} 2>/dev/null").stdout.split()
    seen = min([total, *(int(limit) for limit in limits if limit.isdigit())])
    assert promised * MEMORY_SHARE_MIN <= seen <= promised


def test_a_vm_has_the_addresses_it_was_given(store, shells, node):
    seen = set(shells[node].check_output("ip -4 -oneline address show").split())
    for address in store.variables(node)["objectstore_vm"]["addresses"]:
        assert any(word.startswith(f"{address}/") for word in seen)


def test_a_vm_knows_the_others_by_name(store, shells, node):
    for group in ("default", "envoy"):
        for other in store.hosts(group):
            if other != node:
                assert shells[node].check_output("getent hosts %s", other).split()[0] == (
                    store.address(other)
                )


def test_a_vm_has_the_operators_time(shells, node):
    here, there = time.time(), float(shells[node].check_output("date +%s"))
    assert abs(here - there) < 60


def test_18_infrastructure_addresses_are_reserved_and_the_vms_are_among_them(store):
    reserved = store.infrastructure_addresses
    assert len(set(reserved)) == INFRASTRUCTURE_ADDRESSES
    for group in ("default", "envoy"):
        for host in store.hosts(group):
            assert store.address(host) in reserved


def test_addresses_of_different_use_do_not_overlap(store):
    clients, reserved = store.client_addresses, store.infrastructure_addresses
    single = [store.dns_address, store.management_address, store.gateway]
    everything = [*clients, *reserved, *single]
    assert len(set(clients)) >= CLIENT_ADDRESSES_MIN
    assert len(set(everything)) == len(everything)
    assert all(ipaddress.ip_address(address) for address in everything)


def test_the_stacks_outputs_say_the_same_as_its_inventory(store):
    stack = os.environ.get("OBJECTSTORE_STACK")
    if not stack:
        pytest.skip("OBJECTSTORE_STACK names no stack whose outputs could be read")
    command = [Path(sys.executable).parent / "objectstore", "stack", "output", "--stack", stack]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    outputs = json.loads(done.stdout)
    assert outputs["client_addresses"] == store.client_addresses
    assert outputs["infrastructure_addresses"] == store.infrastructure_addresses
    assert outputs["dns_address"] == store.dns_address
    assert outputs["management_address"] == store.management_address
    vms = {vm["name"]: vm for vm in outputs["vms"]}
    for group in ("default", "envoy"):
        for host in store.hosts(group):
            described = store.variables(host)["objectstore_vm"]
            assert {key: vms[host][key] for key in described} == described
