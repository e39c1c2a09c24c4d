"""The operator's description of a store: configuration in, frozen `StoreSpec` or all errors out.

Pure: nothing is looked up or touched. `parse` checks every field and raises one SpecError that
lists each problem with field, value and what would be right (promises D1, D2, D3, D5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import TypeVar

from objectstore_infra import addresses, sizing
from objectstore_infra.addresses import AddressPlan, AddressRange
from objectstore_infra.errors import SpecError
from objectstore_infra.sizing import Sizing

NAME_LENGTH_MAX = 16
DOMAIN_LENGTH_MAX = 253
SUBSTRATES = ("incus",)
INSTANCE_TYPES = ("container",)
NONE = "none"
ENCRYPTIONS = (NONE, "AES256")
COMPRESSIONS = (NONE, "zstd")
BRIDGE_PREFIX = "os-"
INTERFACE_NAME_LENGTH_MAX = 15
DEFAULT_SUBNET = "10.77.0.0/24"
DEFAULT_POD_NETWORK = "10.244.0.0/16"
DEFAULT_SERVICE_NETWORK = "10.96.0.0/16"
# One /24 for the pods of each of the 18 nodes; services need no more than Kubernetes takes.
POD_NETWORK_PREFIXES = range(8, 20)
SERVICE_NETWORK_PREFIXES = range(12, 25)
_NAME = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]|[a-z]")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_SUBNET_TOO_SMALL = (
    "too few free addresses: 18 infrastructure, 1 DNS, 1 management, 4 client and the gateway are "
    "needed outside the DHCP pool; a /26 is comfortable"
)
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,3}([a-z0-9.+-]*)")

Value = object
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration."""

    field: str
    value: Value
    expected: str

    def __str__(self) -> str:
        return f"{self.field}: {self.value!r}: {self.expected}"


@dataclass(frozen=True, slots=True)
class VmSpec:
    """One machine of the store."""

    name: str
    role: str
    """`default` or `envoy`."""
    vcpu: int
    cores_per_socket: int
    memory_mib: int
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Everything a deployment is made from."""

    name: str
    domain: str
    size: str
    sizing: Sizing
    substrate: str
    instance_type: str
    network_name: str
    network_exists: bool
    """The network is somebody else's: it is used, never made, changed or deleted."""
    plan: AddressPlan
    pod_network: IPv4Network
    """Each node's pods have a /24 of it."""
    service_network: IPv4Network
    version: str
    encryption: str
    """What becomes of objects in buckets that say nothing about it; one of ENCRYPTIONS."""
    compression: str
    """The same, one of COMPRESSIONS."""
    incus_socket: str
    incus_storage_pool: str

    def vms(self) -> list[VmSpec]:
        """Return the machines, workers first."""
        shape = self.sizing
        defaults, envoys = addresses.machine_addresses(
            self.plan.infrastructure, shape.workers, shape.envoys
        )
        named = [(f"default-{i}", "default", shape.worker, ip) for i, ip in enumerate(defaults)]
        named += [(f"envoy-{i}", "envoy", shape.envoy, ip) for i, ip in enumerate(envoys, 1)]
        return [
            VmSpec(f"{self.name}-{suffix}", role, s.vcpu, s.cores_per_socket, s.memory_mib, ip)
            for suffix, role, s, ip in named
        ]

    def others(self) -> dict[str, IPv4Address]:
        """Return the machines that the store would have if it were larger, name → address."""
        reserved = self.plan.infrastructure
        defaults, _ = addresses.machine_addresses(reserved, sizing.WORKERS_MAX, 1)
        _, envoys = addresses.machine_addresses(reserved, sizing.WORKERS_MIN, sizing.ENVOYS_MAX)
        every = {f"{self.name}-default-{i}": ip for i, ip in enumerate(defaults)}
        every |= {f"{self.name}-envoy-{i}": ip for i, ip in enumerate(envoys, 1)}
        there = {vm.name for vm in self.vms()}
        return {name: ip for name, ip in every.items() if name not in there}


class _Fields:
    """The keys of one mapping, taken one by one; notes problems instead of raising."""

    def __init__(self, prefix: str, values: Mapping[str, Value], problems: list[Problem]) -> None:
        self._prefix = prefix
        self._left = dict(values)
        self._problems = problems

    def problem(self, key: str, value: Value, expected: str) -> None:
        self._problems.append(Problem(f"{self._prefix}{key}", value, expected))

    def text(self, key: str, default: str = "") -> str:
        value = self._left.pop(key, default)
        if isinstance(value, str):
            return value.strip()
        self.problem(key, value, "must be text")
        return default

    def number(self, key: str, default: int) -> int:
        value = self._left.pop(key, default)
        text = str(value).strip()
        if not isinstance(value, bool) and text.isascii() and text.isdigit():
            return int(text)
        self.problem(key, value, "must be a whole number")
        return default

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, False)
        if value in (True, False, "true", "false"):
            return value in (True, "true")
        self.problem(key, value, "must be true or false")
        return False

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key, default)
        if value in choices:
            return value
        self.problem(key, value, f"must be one of {', '.join(choices)}")
        return default

    def mapping(self, key: str) -> Mapping[str, Value]:
        value = self._left.pop(key, {})
        if isinstance(value, Mapping):
            return value
        self.problem(key, value, "must be a mapping of fields")
        return {}

    def parsed(self, key: str, parse: Callable[[str], T], expected: str) -> T | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        try:
            return parse(str(value).strip())
        except ValueError as cause:
            self.problem(key, value, f"{expected} ({cause})")
            return None

    def address_list(self, key: str) -> tuple[IPv4Address, ...] | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            self.problem(key, value, "must be addresses and ranges FIRST-LAST")
            return None
        try:
            return addresses.parse_list([entry.strip() for entry in entries])
        except ValueError as cause:
            self.problem(key, value, f"must be addresses and ranges FIRST-LAST ({cause})")
            return None

    def finish(self) -> None:
        for key, value in self._left.items():
            self.problem(key, value, "there is no such setting")


def parse(config: Mapping[str, Value], *, default_version: str) -> StoreSpec:
    """Return the specification. Raises SpecError with every problem found."""
    problems: list[Problem] = []
    fields = _Fields("", config, problems)
    name = _parse_name(fields)
    domain = _parse_domain(fields)
    size, shape = _parse_sizing(fields, problems)
    substrate = fields.choice("substrate", SUBSTRATES, SUBSTRATES[0])
    instance_type = fields.choice("instanceType", INSTANCE_TYPES, INSTANCE_TYPES[0])
    version = fields.text("version", default_version)
    if not _VERSION.fullmatch(version):
        fields.problem("version", version, "must be a version such as 0.1.0")
    encryption = fields.choice("encryption", ENCRYPTIONS, NONE)
    compression = fields.choice("compression", COMPRESSIONS, NONE)
    socket = fields.text("incusSocket")
    pool = fields.text("incusStoragePool", "default")
    network = _Fields("network.", fields.mapping("network"), problems)
    exists = network.flag("existing")
    network_name = _parse_network_name(network, name, exists=exists)
    plan = _parse_addresses(network, shape)
    network.finish()
    pods, services = _parse_inner_networks(fields, plan)
    fields.finish()
    if problems or plan is None:
        raise SpecError(problems)
    return StoreSpec(
        name=name,
        domain=domain,
        size=size,
        sizing=shape,
        substrate=substrate,
        instance_type=instance_type,
        network_name=network_name,
        network_exists=exists,
        plan=plan,
        pod_network=pods,
        service_network=services,
        version=version,
        encryption=encryption,
        compression=compression,
        incus_socket=socket,
        incus_storage_pool=pool,
    )


def bridge_name(store: str) -> str:
    """Return the name of a store's own bridge; Linux allows 15 characters."""
    room = INTERFACE_NAME_LENGTH_MAX - len(BRIDGE_PREFIX)
    if len(store) <= room:
        return f"{BRIDGE_PREFIX}{store}"
    # Long names keep their head and get a digit sum of the whole, so that two of them differ.
    return f"{BRIDGE_PREFIX}{store[: room - 5]}-{_short_hash(store)}"


def _short_hash(text: str) -> str:
    value = 0
    for byte in text.encode():
        value = (value * 257 + byte) & 0xFFFF
    return f"{value:04x}"


def _parse_name(fields: _Fields) -> str:
    name = fields.text("name")
    expected = (
        "a store name has 1 to 16 characters: lower-case letters, digits and hyphens, a letter "
        "first and no hyphen last"
    )
    if len(name) > NAME_LENGTH_MAX:
        fields.problem("name", name, f"{expected}; this one has {len(name)}")
    elif not _NAME.fullmatch(name):
        fields.problem("name", name, expected)
    return name


def _parse_domain(fields: _Fields) -> str:
    domain = fields.text("domain").lower()
    labels = domain.split(".")
    well_formed = all(_LABEL.fullmatch(label) for label in labels)
    if len(labels) < 2 or not well_formed or len(domain) > DOMAIN_LENGTH_MAX:
        fields.problem(
            "domain",
            domain,
            "a domain has at least two labels of letters, digits and hyphens, such as ntnxlab.com",
        )
    return domain


def _parse_sizing(fields: _Fields, problems: list[Problem]) -> tuple[str, Sizing]:
    size = fields.choice("size", (*sizing.SIZES, sizing.CUSTOM), "small")
    given = fields.mapping("custom")
    if size != sizing.CUSTOM:
        if given:
            fields.problem("custom", dict(given), "only goes with size: custom")
        return size, _parse_scale(fields, sizing.SIZES[size])
    before = len(problems)
    custom = _Fields("custom.", given, problems)
    figures = {
        "workers": custom.number("workers", sizing.WORKERS_MIN),
        "vcpu_total": custom.number("vcpu", 0),
        "memory_gib_total": custom.number("memoryGb", 0),
        "envoys": custom.number("envoys", 1),
    }
    custom.finish()
    if len(problems) > before:
        return size, sizing.SIZES["small"]
    try:
        return size, sizing.spread(**figures)
    except ValueError as cause:
        fields.problem("custom", dict(given), str(cause))
        return size, sizing.SIZES["small"]


def _parse_scale(fields: _Fields, planned: Sizing) -> Sizing:
    """Return the size with the operator's numbers of machines, each as big as the size says."""
    workers = fields.number("workers", planned.workers)
    envoys = fields.number("envoys", planned.envoys)
    try:
        return planned.scaled(workers=workers, envoys=envoys)
    except ValueError as cause:
        fields.problem("workers and envoys", f"{workers} and {envoys}", str(cause))
        return planned


def _parse_inner_networks(
    fields: _Fields, plan: AddressPlan | None
) -> tuple[IPv4Network, IPv4Network]:
    """Return the networks of pods and services, which exist only between the store's nodes."""
    pods = fields.parsed("podNetwork", IPv4Network, "must be a network such as 10.244.0.0/16")
    services = fields.parsed(
        "serviceNetwork", IPv4Network, "must be a network such as 10.96.0.0/16"
    )
    pods = pods or IPv4Network(DEFAULT_POD_NETWORK)
    services = services or IPv4Network(DEFAULT_SERVICE_NETWORK)
    for key, network, prefixes in (
        ("podNetwork", pods, POD_NETWORK_PREFIXES),
        ("serviceNetwork", services, SERVICE_NETWORK_PREFIXES),
    ):
        if network.prefixlen not in prefixes:
            fields.problem(key, str(network), f"must be a /{prefixes[0]} to /{prefixes[-1]}")
        if plan is not None and network.overlaps(plan.subnet):
            fields.problem(key, str(network), f"overlaps the store's subnet {plan.subnet}")
    if pods.overlaps(services):
        fields.problem("serviceNetwork", str(services), f"overlaps podNetwork {pods}")
    return pods, services


def _parse_network_name(network: _Fields, store: str, *, exists: bool) -> str:
    name = network.text("name")
    if exists and not name:
        network.problem("name", name, "the name of the existing network is needed")
    if name and not _NETWORK_NAME.fullmatch(name):
        network.problem("name", name, "a bridge name has 1 to 15 letters, digits, hyphens, dots")
    return name or bridge_name(store)


def _parse_addresses(network: _Fields, shape: Sizing) -> AddressPlan | None:
    subnet = network.parsed("subnet", IPv4Network, "must be a subnet such as 10.77.0.0/24")
    gateway = network.parsed("gateway", IPv4Address, "must be an address")
    pool = network.parsed("dhcpPool", addresses.parse_range, "must be a range FIRST-LAST")
    infrastructure = network.address_list("infrastructureAddresses")
    dns = network.parsed("dnsAddress", IPv4Address, "must be an address")
    management = network.parsed("managementAddress", IPv4Address, "must be an address")
    clients = network.address_list("clientAddresses")
    subnet = subnet or IPv4Network(DEFAULT_SUBNET)
    gateway = gateway or subnet.network_address + 1
    chosen = _Chosen(subnet, gateway, pool, infrastructure, dns, management, clients)
    chosen.check(network)
    return chosen.complete(network, shape)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the operator chose; None = plan it."""

    subnet: IPv4Network
    gateway: IPv4Address
    pool: AddressRange | None
    infrastructure: tuple[IPv4Address, ...] | None
    dns: IPv4Address | None
    management: IPv4Address | None
    clients: tuple[IPv4Address, ...] | None

    def named(self) -> list[tuple[str, IPv4Address]]:
        """Return (field, address) for every address chosen."""
        found = [("infrastructureAddresses", ip) for ip in self.infrastructure or ()]
        found += [("dnsAddress", self.dns)] if self.dns else []
        found += [("managementAddress", self.management)] if self.management else []
        return found + [("clientAddresses", ip) for ip in self.clients or ()]

    def check(self, network: _Fields) -> None:
        """Note every collision and every count that is wrong."""
        self._check_frame(network)
        owners: dict[IPv4Address, str] = {}
        for field, address in self.named():
            wrong = self._wrong_place(address)
            if wrong:
                network.problem(field, str(address), wrong)
            elif address in owners:
                also = owners[address]
                where = f"also among {also}" if also != field else "named twice"
                network.problem(field, str(address), f"{where}; each address has one purpose")
            owners.setdefault(address, field)
        count = addresses.INFRASTRUCTURE_COUNT
        if self.infrastructure is not None and len(self.infrastructure) != count:
            network.problem(
                "infrastructureAddresses",
                f"{len(self.infrastructure)} addresses",
                f"exactly {count} are reserved, the machines take theirs from them",
            )
        least = addresses.CLIENT_COUNT_MIN
        if self.clients is not None and len(self.clients) < least:
            network.problem(
                "clientAddresses", f"{len(self.clients)} addresses", f"at least {least} are needed"
            )

    def _check_frame(self, network: _Fields) -> None:
        if not self._is_host(self.gateway):
            network.problem("gateway", str(self.gateway), f"must be a host of {self.subnet}")
        if self.pool is None:
            return
        if not (self._is_host(self.pool.first) and self._is_host(self.pool.last)):
            network.problem(
                "dhcpPool", str(self.pool), f"must lie among the hosts of {self.subnet}"
            )
        if self.gateway in self.pool:
            network.problem(
                "dhcpPool", str(self.pool), f"must not contain the gateway {self.gateway}"
            )

    def _is_host(self, address: IPv4Address) -> bool:
        return (
            address in self.subnet
            and self.subnet.network_address < address < self.subnet.broadcast_address
        )

    def _wrong_place(self, address: IPv4Address) -> str:
        if not self._is_host(address):
            return f"must be a host of the subnet {self.subnet}"
        if address == self.gateway:
            return "is the gateway; choose another"
        if self.pool and address in self.pool:
            return f"lies inside the DHCP pool {self.pool}; choose one outside"
        return ""

    def complete(self, network: _Fields, shape: Sizing) -> AddressPlan | None:
        """Plan what was not chosen; None with a problem noted when the subnet is too small."""
        taken = {address for _, address in self.named()} | {self.gateway}
        free = addresses.free_addresses(self.subnet, taken, self.pool)
        infrastructure = self.infrastructure or tuple(islice(free, addresses.INFRASTRUCTURE_COUNT))
        dns = self.dns or next(free, None)
        management = self.management or next(free, None)
        clients = self.clients or tuple(islice(free, addresses.CLIENT_COUNT_MIN))
        if dns is None or management is None or len(clients) < addresses.CLIENT_COUNT_MIN:
            if self.clients is None:
                network.problem("subnet", str(self.subnet), _SUBNET_TOO_SMALL)
            return None
        try:
            addresses.machine_addresses(infrastructure, shape.workers, shape.envoys)
        except (ValueError, IndexError):
            return None  # the wrong count is a problem already noted
        return AddressPlan(
            self.subnet, self.gateway, self.pool, infrastructure, dns, management, clients
        )
