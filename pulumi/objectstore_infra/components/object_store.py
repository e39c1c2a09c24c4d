"""ObjectStore: one object store on machines of its own, configured and checked.

    Substrate ─ SshKey, Credentials, MasterKey
              ─ Network ─ AddressReservation ┐
              ─ NodeImage ───────────────────┴─ Instance × N ─ OperatorFiles ┐
                ┌────────────────────────────────────────────────────────────┘
                └ ConfigurationRun `platform` ┬ Workloads ──────────────┬ ConfigurationRun `ready`
                                              └ ConfigurationRun `entry` ┘

The first run makes a cluster of the machines and leaves the keys to it; the pods are declared in
it; meanwhile the second run opens the entry to them, and the last one checks the whole.
The owner string `PROJECT/STACK/STORE` marks everything that is made, in the substrate too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi import Output, ResourceOptions

from objectstore_infra import ansible_run, inventory
from objectstore_infra import resources as res
from objectstore_infra.spec import StoreSpec, VmSpec
from objectstore_infra.state_folder import store_folder
from objectstore_infra.workloads import keys
from objectstore_infra.workloads.store import Workloads, WorkloadsArgs

PORT = 7200


class ObjectStore(pulumi.ComponentResource):
    """One object store."""

    owner: str
    inventory: dict[str, object]
    """The administrator's keys in it are secret outputs."""
    access_key: Output[str]
    secret_key: Output[str]

    def __init__(self, spec: StoreSpec, opts: ResourceOptions | None = None) -> None:
        super().__init__("objectstore:components:ObjectStore", spec.name, None, opts)
        self._spec = spec
        self.owner = f"{pulumi.get_project()}/{pulumi.get_stack()}/{spec.name}"
        provider = res.Substrate(
            spec.substrate,
            socket=spec.incus_socket,
            storage_pool=spec.incus_storage_pool,
            opts=ResourceOptions(parent=self),
        )
        self._child = ResourceOptions(parent=self, provider=provider)
        self._key = res.SshKey("ssh-key", spec.name, self._child)
        credentials = res.Credentials("administrator", spec.name, self._child)
        self.access_key, self.secret_key = credentials.accessKey, credentials.secretKey
        self._network, self._reservation = self._make_network()
        image_args = res.NodeImageArgs(spec.version, self.owner)
        self._image = res.NodeImage("node-image", image_args, self._child)
        machines = {vm.name: self._make_instance(vm) for vm in spec.vms()}
        described = inventory.build(spec, self.owner, store_folder(spec.name))
        self.inventory = inventory.with_keys(described, self.access_key, self.secret_key)
        self._configure(machines)
        self.register_outputs({"vms": [inventory.vm_record(vm) for vm in spec.vms()]})

    @classmethod
    def deploy(cls, spec: StoreSpec) -> None:
        """Make the store the stack's, and export what others rely on."""
        store = cls(spec)
        plan = spec.plan
        entry = plan.clients[0]
        exports = {
            "endpoint_http": f"http://{entry}:{PORT}",
            "endpoint_https": f"https://{entry}:{PORT}",
            "client_addresses": [str(address) for address in plan.clients],
            "infrastructure_addresses": [str(address) for address in plan.infrastructure],
            "dns_address": str(plan.dns),
            "management_address": str(plan.management),
            "management_endpoint": inventory.management_endpoint(spec),
            "pod_network": str(spec.pod_network),
            "service_network": str(spec.service_network),
            "ceph_fsid": inventory.ceph_fsid(store.owner),
            "vms": [inventory.vm_record(vm) for vm in spec.vms()],
            "ansible_inventory": store.inventory,
            "access_key": store.access_key,
            "secret_key": store.secret_key,
        }
        for name, value in exports.items():
            pulumi.export(name, value)

    def _make_network(self) -> tuple[res.Network, res.AddressReservation]:
        plan = self._spec.plan
        network = res.Network(
            "network",
            res.NetworkArgs(
                name=self._spec.network_name,
                owner=self.owner,
                existing=self._spec.network_exists,
                gateway=str(plan.gateway),
                prefixLength=plan.subnet.prefixlen,
                dhcpRange=str(plan.dhcp_pool or ""),
            ),
            self._child,
        )
        reservation = res.AddressReservation(
            "addresses",
            res.AddressReservationArgs(network.name, self.owner, plan.purposes()),
            self._child,
        )
        return network, reservation

    def _make_instance(self, vm: VmSpec) -> res.Instance:
        plan = self._spec.plan
        args = res.InstanceArgs(
            name=vm.name,
            owner=self.owner,
            image=self._image.alias,
            network=self._network.name,
            address=str(vm.address),
            prefixLength=plan.subnet.prefixlen,
            gateway=str(plan.gateway),
            resolver=str(plan.gateway),
            authorizedKey=self._key.publicKey,
            privateKey=self._key.privateKey,
            vcpu=vm.vcpu,
            coresPerSocket=vm.cores_per_socket,
            memoryMib=vm.memory_mib,
            containerHost=vm.role == "default",
        )
        after = ResourceOptions(depends_on=[self._reservation])
        return res.Instance(vm.name, args, ResourceOptions.merge(self._child, after))

    def _configure(self, machines: dict[str, res.Instance]) -> None:
        spec = self._spec
        addresses = {vm.name: str(vm.address) for vm in spec.vms()}
        files = res.OperatorFiles(
            "operator-files",
            res.OperatorFilesArgs(
                store=spec.name,
                inventory=inventory.build(spec, self.owner, store_folder(spec.name)),
                accessKey=self.access_key,
                secretKey=self.secret_key,
                privateKey=self._key.privateKey,
                hostKeys={addresses[name]: m.hostKey for name, m in machines.items()},
            ),
            self._child,
        )
        platform = self._run(
            "platform", ["platform.yml"], [files, *machines.values()], machines, first=True
        )
        workloads = Workloads(
            WorkloadsArgs(
                spec=spec,
                files=platform.files,
                master_key=res.MasterKey("master-key", spec.name, self._child).key,
                access_key=self.access_key,
                secret_key=self.secret_key,
            ),
            platform,
            ResourceOptions(parent=self),
        )
        entry = self._run("entry", ["entry.yml"], [platform], machines)
        self._run("ready", ["ready.yml"], [entry, *workloads.ready], machines)

    def _run(
        self,
        name: str,
        playbooks: list[str],
        after: Sequence[pulumi.Resource],
        machines: Mapping[str, res.Instance],
        *,
        first: bool = False,
    ) -> res.ConfigurationRun:
        """Run playbooks; the first run lets leave who leaves and hands on what its roles made."""
        others = {vm_name: str(address) for vm_name, address in self._spec.others().items()}
        described = Output.from_input(self.inventory)
        return res.ConfigurationRun(
            name,
            res.ConfigurationRunArgs(
                store=self._spec.name,
                playbooks=playbooks,
                collects=keys.collected_files(self._spec.name) if first else [],
                # The hash of random keys gives nothing away, and a diff of it should be seen.
                inventoryHash=Output.unsecret(described.apply(inventory.fingerprint)),
                playbooksHash=ansible_run.content_hash(),
                version=self._spec.version,
                machines={name: machine.hostKey for name, machine in machines.items()},
                others=others if first else {},
                owner=self.owner,
            ),
            ResourceOptions.merge(self._child, ResourceOptions(depends_on=list(after))),
        )
