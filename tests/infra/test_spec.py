"""The specification: what is planned, what is refused, and that every problem is named at once."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectstore_infra import addresses, sizing, spec
from objectstore_infra.errors import SpecError
from objectstore_infra.spec import StoreSpec

GOOD: dict[str, Any] = {"name": "abc-oss", "domain": "ntnxlab.com"}
VERSION = "0.1.0"


def parse(**changes: Any) -> StoreSpec:
    return spec.parse({**GOOD, **changes}, default_version=VERSION)


def problems(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as refused:
        parse(**changes)
    return [str(problem) for problem in refused.value.problems]


def test_names_and_addresses_of_a_small_store() -> None:
    store = parse()
    assert [(vm.name, vm.role, str(vm.address)) for vm in store.vms()] == [
        ("abc-oss-default-0", "default", "10.77.0.10"),
        ("abc-oss-default-1", "default", "10.77.0.11"),
        ("abc-oss-default-2", "default", "10.77.0.12"),
        ("abc-oss-envoy-1", "envoy", "10.77.0.13"),
    ]
    plan = store.plan
    assert len(plan.infrastructure) == 18
    assert (str(plan.dns), str(plan.management)) == ("10.77.0.28", "10.77.0.29")
    assert [str(address) for address in plan.clients] == [f"10.77.0.{n}" for n in range(30, 34)]
    assert store.network_name == "os-abc-oss"
    assert store.version == VERSION
    assert (store.encryption, store.compression) == ("none", "none")


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"name": "a" * 17}, "name", "this one has 17"),
        ({"name": ""}, "name", "1 to 16 characters"),
        ({"name": "1abc"}, "name", "a letter first"),
        ({"name": "abc-"}, "name", "no hyphen last"),
        ({"name": "Abc"}, "name", "lower-case"),
        ({"domain": "local"}, "domain", "at least two labels"),
        ({"domain": "a..b"}, "domain", "at least two labels"),
        ({"size": "tiny"}, "size", "one of small, medium, large, custom"),
        ({"custom": {"workers": 3}}, "custom", "only goes with size: custom"),
        ({"size": "custom", "custom": {"workers": "x"}}, "custom.workers", "whole number"),
        ({"size": "custom", "custom": {"vcpu": 4, "memoryGb": 40}}, "custom", "at least 6"),
        ({"substrate": "cloud"}, "substrate", "must be one of incus"),
        ({"instanceType": "virtual-machine"}, "instanceType", "must be one of container"),
        ({"version": "newest"}, "version", "such as 0.1.0"),
        ({"encryption": "aes"}, "encryption", "must be one of none, AES256"),
        ({"compression": "gzip"}, "compression", "must be one of none, zstd"),
        ({"colour": "red"}, "colour", "no such setting"),
        ({"network": {"colour": "red"}}, "network.colour", "no such setting"),
        ({"network": "10.0.0.0/24"}, "network", "mapping of fields"),
        ({"network": {"subnet": "10.0.0.1/24"}}, "network.subnet", "must be a subnet"),
        ({"network": {"subnet": "10.0.0.0/28"}}, "network.subnet", "too few free addresses"),
        ({"network": {"gateway": "10.1.0.1"}}, "network.gateway", "must be a host of 10.77.0.0/24"),
        ({"network": {"dhcpPool": "10.77.0.9"}}, "network.dhcpPool", "FIRST-LAST"),
        ({"network": {"dhcpPool": "10.77.0.9-10.77.0.4"}}, "network.dhcpPool", "lies behind"),
        ({"network": {"dhcpPool": "10.77.0.1-10.77.0.9"}}, "network.dhcpPool", "the gateway"),
        ({"network": {"dhcpPool": "10.78.0.1-10.78.0.9"}}, "network.dhcpPool", "among the hosts"),
        ({"network": {"dnsAddress": "10.77.0.1"}}, "network.dnsAddress", "is the gateway"),
        ({"network": {"dnsAddress": "10.77.0.255"}}, "network.dnsAddress", "must be a host"),
        ({"network": {"managementAddress": "x"}}, "network.managementAddress", "an address"),
        ({"network": {"clientAddresses": 7}}, "network.clientAddresses", "addresses and ranges"),
        ({"network": {"clientAddresses": "10.77.0.1-x"}}, "network.clientAddresses", "and ranges"),
        ({"workers": 2}, "workers and envoys", "workers must be 3 to 14"),
        ({"workers": 4, "envoys": 5}, "workers and envoys", "envoys must be 1 to 4"),
        ({"podNetwork": "10.244.0.1/16"}, "podNetwork", "must be a network"),
        ({"podNetwork": "10.244.0.0/20"}, "podNetwork", "must be a /8 to /19"),
        ({"podNetwork": "10.64.0.0/12"}, "podNetwork", "overlaps the store's subnet 10.77.0.0/24"),
        ({"serviceNetwork": "10.77.0.0/24"}, "serviceNetwork", "overlaps the store's subnet"),
        ({"serviceNetwork": "10.244.9.0/24"}, "serviceNetwork", "overlaps podNetwork"),
        ({"network": {"existing": True}}, "network.name", "name of the existing network"),
        ({"network": {"existing": "perhaps"}}, "network.existing", "true or false"),
        ({"network": {"name": "much-too-long-for-linux"}}, "network.name", "1 to 15"),
        (
            {"network": {"clientAddresses": "10.77.0.40-10.77.0.42"}},
            "network.clientAddresses",
            "at least 4 are needed",
        ),
        (
            {"network": {"infrastructureAddresses": "10.77.0.40-10.77.0.56"}},
            "network.infrastructureAddresses",
            "exactly 18 are reserved",
        ),
    ],
)
def test_a_wrong_field_is_refused_with_what_would_be_right(
    changes: dict[str, Any], field: str, says: str
) -> None:
    found = problems(**changes)
    assert len(found) == 1
    assert found[0].startswith(f"{field}: ")
    assert says in found[0]


def test_a_client_address_inside_the_dhcp_pool_is_named() -> None:
    network = {
        "dhcpPool": "10.77.0.40-10.77.0.60",
        "clientAddresses": "10.77.0.61-10.77.0.63, 10.77.0.50",
    }
    assert problems(network=network) == [
        "network.clientAddresses: '10.77.0.50': lies inside the DHCP pool "
        "10.77.0.40-10.77.0.60; choose one outside"
    ]


def test_overlapping_ranges_are_refused_with_each_address_named() -> None:
    network = {
        "infrastructureAddresses": "10.77.0.10-10.77.0.27",
        "clientAddresses": "10.77.0.26-10.77.0.29",
        "dnsAddress": "10.77.0.28",
    }
    found = problems(network=network)
    assert all("each address has one purpose" in line for line in found)
    assert {line.split("'")[1] for line in found} == {"10.77.0.26", "10.77.0.27", "10.77.0.28"}


def test_all_problems_are_reported_at_once() -> None:
    found = problems(name="x" * 20, domain="local", size="tiny", network={"dnsAddress": "nowhere"})
    assert [line.split(":")[0] for line in found] == [
        "name",
        "domain",
        "size",
        "network.dnsAddress",
    ]


def test_custom_totals_decide_the_workers() -> None:
    store = parse(size="custom", custom={"workers": 3, "vcpu": 20, "memoryGb": 40})
    assert {(vm.vcpu, vm.memory_mib) for vm in store.vms()[:3]} == {(6, 13 * 1024)}


def test_a_store_is_scaled_by_two_numbers_and_nobody_moves() -> None:
    before, after = parse(), parse(workers=4, envoys="2")
    assert [(vm.name, str(vm.address)) for vm in after.vms()] == [
        ("abc-oss-default-0", "10.77.0.10"),
        ("abc-oss-default-1", "10.77.0.11"),
        ("abc-oss-default-2", "10.77.0.12"),
        ("abc-oss-default-3", "10.77.0.14"),
        ("abc-oss-envoy-1", "10.77.0.13"),
        ("abc-oss-envoy-2", "10.77.0.27"),
    ]
    assert set(before.vms()) <= set(after.vms())
    assert after.vms()[3].memory_mib == before.vms()[0].memory_mib


def test_networks_of_pods_and_services_may_be_chosen() -> None:
    store = parse(podNetwork="172.20.0.0/16", serviceNetwork="172.21.0.0/20")
    assert (str(store.pod_network), str(store.service_network)) == (
        "172.20.0.0/16",
        "172.21.0.0/20",
    )


@given(st.from_regex(r"[a-z][a-z0-9-]{0,14}[a-z0-9]", fullmatch=True))
def test_bridge_names_fit_linux_and_differ(name: str) -> None:
    bridge = spec.bridge_name(name)
    assert len(bridge) <= 15
    assert bridge != spec.bridge_name(f"{name[:-1]}{'0' if name[-1] != '0' else '1'}")


@st.composite
def networks(draw: st.DrawFn) -> dict[str, str]:
    length = draw(st.integers(22, 26))
    base = draw(st.integers(0, 2**32 - 1)) >> (32 - length) << (32 - length)
    subnet = IPv4Network((base, length))
    first = draw(st.integers(base + 2, base + 14))
    last = draw(st.integers(first, first + 8))
    pool = f"{IPv4Address(first)}-{IPv4Address(last)}"
    return {"subnet": str(subnet), "dhcpPool": pool}


@given(networks())
def test_planned_addresses_never_collide(network: dict[str, str]) -> None:
    plan = parse(network=network).plan
    everything = [*plan.infrastructure, plan.dns, plan.management, *plan.clients]
    assert len(everything) == len(set(everything)) == 18 + 2 + 4
    assert plan.dhcp_pool is not None
    for address in everything:
        assert address in plan.subnet
        assert address not in plan.dhcp_pool
        assert address not in (
            plan.gateway,
            plan.subnet.network_address,
            plan.subnet.broadcast_address,
        )
    assert len(plan.purposes()) == 24


@given(
    workers=st.integers(3, sizing.WORKERS_MAX - 1),
    envoys=st.integers(1, sizing.ENVOYS_MAX - 1),
)
def test_scaling_moves_nobodys_address(workers: int, envoys: int) -> None:
    room = [IPv4Address(0x0A000000 + number) for number in range(18)]
    before = addresses.machine_addresses(room, workers, envoys)
    more_workers = addresses.machine_addresses(room, workers + 1, envoys)
    more_envoys = addresses.machine_addresses(room, workers, envoys + 1)
    assert more_workers[0][:workers] == before[0]
    assert more_workers[1] == before[1]
    assert more_envoys[0] == before[0]
    assert more_envoys[1][:envoys] == before[1]
    assert not set(before[0]) & set(before[1])
