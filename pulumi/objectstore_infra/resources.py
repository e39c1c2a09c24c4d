"""The provider's resources as the program sees them: typed arguments, typed outputs.

Each class mirrors the handler of the same name in `provider/`, which documents what it does.
"""

# ruff: noqa: N815 - properties carry the names they have on the wire
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pulumi
from pulumi import Input, Output, ResourceOptions

from objectstore_infra.provider import PACKAGE, VERSION


class Substrate(pulumi.ProviderResource):
    """The provider, told which Incus to use."""

    def __init__(
        self, name: str, *, socket: str, storage_pool: str, opts: ResourceOptions | None = None
    ) -> None:
        properties = {"incusSocket": socket, "incusStoragePool": storage_pool}
        settings = {key: value for key, value in properties.items() if value}
        super().__init__(PACKAGE, name, settings, _versioned(opts))


@dataclass(frozen=True, slots=True)
class NetworkArgs:
    """What a Network takes."""

    name: Input[str]
    owner: Input[str]
    existing: Input[bool]
    """Only used, never changed."""
    gateway: Input[str]
    prefixLength: Input[int]
    dhcpRange: Input[str]
    """FIRST-LAST, or empty."""


class Network(pulumi.CustomResource):
    """A bridge."""

    name: Output[str]

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions) -> None:
        _register(self, "Network", name, _properties(args), opts)


@dataclass(frozen=True, slots=True)
class AddressReservationArgs:
    """What an AddressReservation takes."""

    network: Input[str]
    owner: Input[str]
    purposes: Input[Mapping[str, Input[str]]]
    """address → purpose"""


class AddressReservation(pulumi.CustomResource):
    """The store's entries in the network's ledger."""

    def __init__(self, name: str, args: AddressReservationArgs, opts: ResourceOptions) -> None:
        _register(self, "AddressReservation", name, _properties(args), opts)


@dataclass(frozen=True, slots=True)
class NodeImageArgs:
    """What a NodeImage takes."""

    bundle: Input[str]
    """The version of the bundle that it is made of."""
    owner: Input[str]


class NodeImage(pulumi.CustomResource):
    """The image of all nodes."""

    alias: Output[str]

    def __init__(self, name: str, args: NodeImageArgs, opts: ResourceOptions) -> None:
        _register(self, "NodeImage", name, {**_properties(args), "alias": None}, opts)


class SshKey(pulumi.CustomResource):
    """The key to the store's machines."""

    publicKey: Output[str]
    privateKey: Output[str]

    def __init__(self, name: str, store: str, opts: ResourceOptions) -> None:
        outputs = {"publicKey": None, "privateKey": None}
        _register(self, "SshKey", name, {"store": store, **outputs}, opts)


class Credentials(pulumi.CustomResource):
    """The keys of the first administrator."""

    accessKey: Output[str]
    secretKey: Output[str]

    def __init__(self, name: str, store: str, opts: ResourceOptions) -> None:
        outputs = {"accessKey": None, "secretKey": None}
        _register(self, "Credentials", name, {"store": store, **outputs}, opts)


class MasterKey(pulumi.CustomResource):
    """The key that seals the store's secrets at rest."""

    key: Output[str]
    """32 bytes in base64."""

    def __init__(self, name: str, store: str, opts: ResourceOptions) -> None:
        _register(self, "MasterKey", name, {"store": store, "key": None}, opts)


@dataclass(frozen=True, slots=True)
class InstanceArgs:
    """What an Instance takes."""

    name: Input[str]
    owner: Input[str]
    image: Input[str]
    network: Input[str]
    address: Input[str]
    prefixLength: Input[int]
    gateway: Input[str]
    resolver: Input[str]
    authorizedKey: Input[str]
    privateKey: Input[str]
    vcpu: Input[int]
    coresPerSocket: Input[int]
    memoryMib: Input[int]
    containerHost: Input[bool]
    """It runs Kubernetes and Ceph."""
    running: Input[bool] = True


class Instance(pulumi.CustomResource):
    """One machine."""

    address: Output[str]
    hostKey: Output[str]

    def __init__(self, name: str, args: InstanceArgs, opts: ResourceOptions) -> None:
        outputs = {"hostKey": None, "ready": None}
        _register(self, "Instance", name, {**_properties(args), **outputs}, opts)


@dataclass(frozen=True, slots=True)
class OperatorFilesArgs:
    """What OperatorFiles take."""

    store: Input[str]
    inventory: Input[Mapping[str, object]]
    """Without the administrator's keys."""
    accessKey: Input[str]
    secretKey: Input[str]
    privateKey: Input[str]
    hostKeys: Input[Mapping[str, Input[str]]]
    """address → `ssh-ed25519 …`"""


class OperatorFiles(pulumi.CustomResource):
    """Inventory, key and known hosts on the operator's side."""

    def __init__(self, name: str, args: OperatorFilesArgs, opts: ResourceOptions) -> None:
        _register(self, "OperatorFiles", name, _properties(args), opts)


@dataclass(frozen=True, slots=True)
class ConfigurationRunArgs:
    """What a ConfigurationRun takes; any of them changing causes another run."""

    store: Input[str]
    playbooks: Input[Sequence[str]]
    """Below `playbooks/`, in the order in which they run."""
    collects: Input[Sequence[str]]
    """Files below the store's folder that others need, once the playbooks have run."""
    inventoryHash: Input[str]
    playbooksHash: Input[str]
    version: Input[str]
    machines: Input[Mapping[str, Input[str]]]
    """name → host key: a machine made anew is a bare one"""
    others: Input[Mapping[str, Input[str]]]
    """name → address of machines that the store is to have no more: what there is of them leaves"""
    owner: Input[str]


Args = (
    NetworkArgs
    | AddressReservationArgs
    | NodeImageArgs
    | InstanceArgs
    | OperatorFilesArgs
    | ConfigurationRunArgs
)


class ConfigurationRun(pulumi.CustomResource):
    """Ansible's run over the store's machines."""

    files: Output[Mapping[str, str]]
    """What was collected: path → text; secret."""

    def __init__(self, name: str, args: ConfigurationRunArgs, opts: ResourceOptions) -> None:
        _register(self, "ConfigurationRun", name, {**_properties(args), "files": None}, opts)


def _properties(args: Args) -> dict[str, object]:
    # Not dataclasses.asdict: it would copy the outputs among them, which cannot be copied.
    return {field.name: getattr(args, field.name) for field in fields(args)}


def _register(
    resource: pulumi.CustomResource,
    type_name: str,
    name: str,
    properties: dict[str, object],
    opts: ResourceOptions,
) -> None:
    token = f"{PACKAGE}:index:{type_name}"
    pulumi.CustomResource.__init__(resource, token, name, properties, _versioned(opts))


def _versioned(opts: ResourceOptions | None) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(version=VERSION))
