"""Workloads: all objects of a store in its Kubernetes, in the order in which they are needed.

    namespace ─ priorities, accounts, policies, Secrets, services
              └ zookeeper ─ metadata, iam ─ object-controller, atlas

They are deleted with the platform that they lie in; one that is no longer declared is deleted by
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi import Output, Resource, ResourceOptions

from objectstore_infra.spec import StoreSpec
from objectstore_infra.workloads import (
    access,
    atlas,
    iam,
    metadata,
    object_controller,
    pods,
    settings,
    traffic,
    zookeeper,
)
from objectstore_infra.workloads.keys import KUBECONFIG, Sealed, seal
from objectstore_infra.workloads.names import (
    ATLAS,
    IAM,
    LOCAL_STORAGE,
    METADATA,
    NAMESPACE,
    OBJECT_CONTROLLER,
    PRIORITY_CLASS,
    ZOOKEEPER,
    described,
    store_image,
)
from objectstore_infra.workloads.pods import Spec

PRIORITY = 1_000_000
# The bookkeeping of Pulumi's own provider waits for a Service's pods, which wait for the Service.
NO_WAIT = {"pulumi.com/skipAwait": "true"}


@dataclass(frozen=True, slots=True)
class WorkloadsArgs:
    """What the workloads are made of."""

    spec: StoreSpec
    files: Output[Mapping[str, str]]
    """What the platform's roles left, path → text; `keys.collected_files` names them."""
    master_key: Output[str]
    """32 bytes in base64."""
    access_key: Output[str]
    secret_key: Output[str]


class Workloads(pulumi.ComponentResource):
    """The pods of one store and what they need."""

    ready: Sequence[Resource]
    """What serves clients: whoever sends them requests waits for it."""

    def __init__(self, args: WorkloadsArgs, platform: Resource, opts: ResourceOptions) -> None:
        super().__init__("objectstore:components:Workloads", args.spec.name, None, opts)
        self._spec = args.spec
        self._image = store_image(args.spec.version)
        provider = kubernetes.Provider(
            "cluster",
            kubeconfig=args.files.apply(lambda files: files[KUBECONFIG]),
            cluster_identifier=args.spec.name,
            delete_unreachable=True,
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            upsert_existing_objects=True,
            opts=ResourceOptions(parent=self),
        )
        within = ResourceOptions(parent=self, provider=provider, deleted_with=platform)
        self._namespace = kubernetes.core.v1.Namespace(
            NAMESPACE, metadata={"name": NAMESPACE}, opts=within
        )
        self._within = ResourceOptions.merge(within, ResourceOptions(depends_on=[self._namespace]))
        self._sealed = seal(
            args.spec.name, args.files, args.master_key, args.access_key, args.secret_key
        )
        needed = [*self._access(), *self._policies(), *self._secrets(self._sealed), *self._rules()]
        ensemble = self._zookeeper(needed)
        shards = [self._metadata([*needed, ensemble]), self._iam([*needed, ensemble])]
        front = self._object_controller([*needed, *shards])
        self.ready = [front, self._atlas([*needed, *shards])]
        self.register_outputs({"image": self._image})

    def _zookeeper(self, needed: Sequence[Resource]) -> Resource:
        # Only on the first nodes, which never leave: a volume binds a server to its node.
        nodes = [vm for vm in self._spec.vms() if vm.role == "default"][: zookeeper.SERVERS]
        volumes = [
            kubernetes.core.v1.PersistentVolume(
                f"zookeeper-{vm.name}",
                metadata={"name": f"zookeeper-{vm.name}", "labels": described(ZOOKEEPER)},
                spec=zookeeper.volume(vm.name),
                opts=self._after(needed),
            )
            for vm in nodes
        ]
        service = self._service(ZOOKEEPER, zookeeper.service())
        configuration = self._configuration(ZOOKEEPER, zookeeper.files())
        servers: Resource = kubernetes.apps.v1.StatefulSet(
            ZOOKEEPER,
            metadata=_metadata(ZOOKEEPER),
            spec=zookeeper.stateful_set(
                configuration.metadata["name"], self._sealed.hash_of([zookeeper.SERVER_TLS])
            ),
            opts=self._after([*needed, *volumes, service]),
        )
        self._budget(ZOOKEEPER, zookeeper.disruption_budget(), servers)
        return servers

    def _metadata(self, needed: Sequence[Resource]) -> Resource:
        service = self._service(METADATA, metadata.service())
        served: Resource = kubernetes.apps.v1.StatefulSet(
            METADATA,
            metadata=_metadata(METADATA),
            spec=metadata.stateful_set(*self._pod(metadata.SERVICE)),
            opts=self._after([*needed, service]),
        )
        self._budget(METADATA, metadata.disruption_budget(), served)
        return served

    def _iam(self, needed: Sequence[Resource]) -> Resource:
        served = self._deployment(IAM, iam.deployment(*self._pod(iam.SERVICE)), needed)
        self._budget(IAM, iam.disruption_budget(), served)
        return served

    def _object_controller(self, needed: Sequence[Resource]) -> Resource:
        service = self._service(OBJECT_CONTROLLER, object_controller.service())
        replicas = self._spec.sizing.workers
        specification = object_controller.deployment(
            replicas, *self._pod(object_controller.SERVICE)
        )
        served = self._deployment(OBJECT_CONTROLLER, specification, [*needed, service])
        self._budget(OBJECT_CONTROLLER, object_controller.disruption_budget(), served)
        return served

    def _atlas(self, needed: Sequence[Resource]) -> Resource:
        return self._deployment(ATLAS, atlas.deployment(*self._pod(atlas.SERVICE)), needed)

    def _pod(self, service: pods.Service) -> tuple[str, Output[str], Output[str]]:
        """Return image, name of the configuration and hash of the Secrets of a service."""
        files = {"service.toml": settings.service_toml(self._spec, service.name)}
        configuration = self._configuration(service.name, files)
        sealed = [*service.secrets, *(["administrator"] if service.environment else [])]
        return self._image, configuration.metadata["name"], self._sealed.hash_of(sealed)

    def _deployment(self, name: str, spec: Spec, needed: Sequence[Resource]) -> Resource:
        served: Resource = kubernetes.apps.v1.Deployment(
            name, metadata=_metadata(name), spec=spec, opts=self._after(needed)
        )
        return served

    def _service(self, name: str, spec: Spec) -> Resource:
        metadata = {**_metadata(name), "annotations": NO_WAIT}
        service: Resource = kubernetes.core.v1.Service(
            name, metadata=metadata, spec=spec, opts=self._within
        )
        return service

    def _configuration(self, name: str, files: Mapping[str, str]) -> kubernetes.core.v1.ConfigMap:
        hashed = settings.hashed_name(name, files)
        # The resource is called by its hash, too: a changed one is another one, made first.
        return kubernetes.core.v1.ConfigMap(
            hashed, metadata=_metadata(name, hashed), data=files, opts=self._within
        )

    def _budget(self, name: str, spec: Spec, pods_of: Resource) -> None:
        kubernetes.policy.v1.PodDisruptionBudget(
            name, metadata=_metadata(name), spec=spec, opts=self._after([pods_of])
        )

    def _secrets(self, sealed: Sealed) -> list[Resource]:
        return [
            kubernetes.core.v1.Secret(
                name, metadata=_metadata(name), data=content, opts=self._within
            )
            for name, content in sealed.contents.items()
        ]

    def _rules(self) -> list[Resource]:
        envoys = [vm.address for vm in self._spec.vms() if vm.role == "envoy"]
        nodes = self._spec.plan.infrastructure
        rules = traffic.policies(traffic.declared(), nodes, envoys)
        return [
            kubernetes.networking.v1.NetworkPolicy(
                name, metadata=_metadata(name), spec=spec, opts=self._within
            )
            for name, spec in rules.items()
        ]

    def _policies(self) -> list[Resource]:
        """What pods may ask for: a priority, a class of local volumes."""
        return [
            kubernetes.scheduling.v1.PriorityClass(
                PRIORITY_CLASS,
                metadata={"name": PRIORITY_CLASS},
                value=PRIORITY,
                description="Without these pods the store answers nothing.",
                opts=self._within,
            ),
            kubernetes.storage.v1.StorageClass(
                LOCAL_STORAGE,
                metadata={"name": LOCAL_STORAGE},
                provisioner="kubernetes.io/no-provisioner",
                volume_binding_mode="WaitForFirstConsumer",
                opts=self._within,
            ),
        ]

    def _access(self) -> list[Resource]:
        rbac = kubernetes.rbac.v1
        made: list[Resource] = [
            kubernetes.core.v1.ServiceAccount(
                name,
                metadata=_metadata(name),
                automount_service_account_token=False,
                opts=self._within,
            )
            for name in (*access.POD_ACCOUNTS, *access.TOKEN_ACCOUNTS)
        ]
        for name, rules in access.ROLES.items():
            made.append(rbac.Role(name, metadata=_metadata(name), rules=rules, opts=self._within))
            made.append(
                rbac.RoleBinding(
                    name,
                    metadata=_metadata(name),
                    role_ref=access.role("Role", name),
                    subjects=[access.account(name)],
                    opts=self._within,
                )
            )
        made.append(
            rbac.RoleBinding(
                "deployers",
                metadata=_metadata("deployers"),
                role_ref=access.role("ClusterRole", "admin"),
                subjects=access.deployers(),
                opts=self._within,
            )
        )
        return made + [self._token(name, made) for name in access.TOKEN_ACCOUNTS]

    def _token(self, name: str, accounts: Sequence[Resource]) -> Resource:
        of_account = {"kubernetes.io/service-account.name": name}
        token: Resource = kubernetes.core.v1.Secret(
            f"{name}-token",
            metadata={**_metadata(name, f"{name}-token"), "annotations": of_account},
            type="kubernetes.io/service-account-token",
            opts=self._after(accounts),
        )
        return token

    def _after(self, needed: Sequence[Resource]) -> ResourceOptions:
        return ResourceOptions.merge(self._within, ResourceOptions(depends_on=list(needed)))


def _metadata(part: str, name: str = "") -> dict[str, object]:
    return {"name": name or part, "namespace": NAMESPACE, "labels": described(part)}
