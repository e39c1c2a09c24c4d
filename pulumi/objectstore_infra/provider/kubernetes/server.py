"""The plugin's process: Pulumi's protocol on one side, `objects` on the other.

Run as `python -m objectstore_infra.provider.kubernetes.server ENGINE_ADDRESS`. Every call runs in a
thread of its own, so that workloads are waited for side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import cast

from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import main as serve

from objectstore_infra.errors import InfraError
from objectstore_infra.provider.engine_log import EngineLog
from objectstore_infra.provider.kubernetes import PACKAGE, VERSION
from objectstore_infra.provider.kubernetes.api import Access, Cluster
from objectstore_infra.provider.kubernetes.changes import Difference, differences
from objectstore_infra.provider.kubernetes.kinds import Kind, kind_of
from objectstore_infra.provider.kubernetes.objects import INPUTS, Objects
from objectstore_infra.provider.values import (
    Record,
    has_secret,
    to_properties,
    to_record,
)

FORCE_VARIABLE = "PULUMI_K8S_ENABLE_PATCH_FORCE"
# Settings of the SDK's Provider that are heeded, or that say what is done anyway.
SETTINGS = frozenset(
    {
        "kubeconfig",
        "deleteUnreachable",
        "enablePatchForce",
        "enableServerSideApply",
        "enableConfigMapMutable",
        "enableSecretMutable",
        "upsertExistingObjects",
        "clusterIdentifier",
    }
)

Properties = dict[str, PropertyValue]


class KubernetesProvider(sdk.Provider):
    """Dispatches the protocol's requests."""

    def __init__(
        self, say: Callable[[str, str], None], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._say = say
        self._environment = environment
        self._objects: Objects | None = None

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:
        """Return the least schema that names the package."""
        return sdk.GetSchemaResponse(json.dumps({"name": PACKAGE, "version": VERSION}))

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Refuse settings that this provider would pass over."""
        failures = [
            sdk.CheckFailure(name, "the embedded engine's provider has no such setting")
            for name in sorted(request.new_inputs.keys() - SETTINGS)
        ]
        if "kubeconfig" not in request.new_inputs:
            failures.append(sdk.CheckFailure("kubeconfig", "is missing"))
        return sdk.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        """Take the cluster's address and keys."""
        settings = to_record(request.args)
        forced = self._environment.get(FORCE_VARIABLE) == "true"
        self._objects = Objects(
            Cluster(Access.from_kubeconfig(str(settings["kubeconfig"]))),
            force=forced or _is_set(settings, "enablePatchForce"),
            delete_unreachable=_is_set(settings, "deleteUnreachable"),
        )
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Fill in what the type says, and refuse what has no name of its own."""
        kind = _kind(request.urn)
        inputs = dict(request.new_inputs)
        metadata = _members(inputs.get("metadata"))
        failures = []
        if "name" not in metadata:
            failures.append(sdk.CheckFailure("metadata.name", "is missing: say the name"))
        if kind.namespaced and "namespace" not in metadata:
            failures.append(sdk.CheckFailure("metadata.namespace", "is missing: say the namespace"))
        inputs |= {"apiVersion": PropertyValue(kind.api), "kind": PropertyValue(kind.name)}
        return sdk.CheckResponse(inputs=inputs, failures=failures)

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """Say what the program says otherwise than before, and whether that can change in place."""
        kind = _kind(request.urn)
        said = to_record(request.old_state).get(INPUTS)
        old = cast("Record", said) if isinstance(said, Mapping) else {}
        found = list(differences(old, to_record(request.new_inputs)))
        replaces = [each.path for each in found if kind.is_fixed(each.path)]
        return sdk.DiffResponse(
            changes=bool(found),
            diffs=sorted({each.path.split(".")[0].split("[")[0] for each in found}),
            replaces=replaces,
            # Names are fixed, so the old one has to go before the new one comes.
            delete_before_replace=bool(replaces),
            detailed_diff={
                each.path: sdk.PropertyDiff(_effect(each, kind), input_diff=False) for each in found
            },
        )

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Make the object; in a preview only ask the cluster whether it would."""
        kind, inputs = _kind(request.urn), to_record(request.properties)
        objects = self._ready()
        if request.preview:
            await asyncio.to_thread(objects.preview, kind, None, inputs)
            return sdk.CreateResponse(properties=request.properties)
        resource_id, state = await asyncio.to_thread(
            objects.create, kind, inputs, self._sayer(request.urn)
        )
        return sdk.CreateResponse(resource_id, _sealed(kind, state, request.properties))

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        """Change the object in place."""
        kind, inputs = _kind(request.urn), to_record(request.news)
        objects, state = self._ready(), to_record(request.olds)
        if request.preview:
            await asyncio.to_thread(objects.preview, kind, state, inputs)
            return sdk.UpdateResponse({**request.olds, **request.news})
        changed = await asyncio.to_thread(
            objects.update, kind, state, inputs, self._sayer(request.urn)
        )
        return sdk.UpdateResponse(_sealed(kind, changed, request.news))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """Look at the object; an empty id in the answer says that it is gone."""
        kind = _kind(request.urn)
        found = await asyncio.to_thread(
            self._ready().read,
            kind,
            request.resource_id,
            to_record(request.properties),
            to_record(request.inputs),
        )
        if found is None:
            return sdk.ReadResponse(resource_id="")
        resource_id, state, inputs = found
        return sdk.ReadResponse(
            resource_id,
            _sealed(kind, state, request.inputs),
            _sealed(kind, inputs, request.inputs),
        )

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Remove the object and wait for its end."""
        await asyncio.to_thread(
            self._ready().delete,
            _kind(request.urn),
            request.resource_id,
            to_record(request.properties),
            self._sayer(request.urn),
        )

    def _ready(self) -> Objects:
        if self._objects is None:
            raise InfraError("the provider was not configured before its first use")
        return self._objects

    def _sayer(self, urn: str) -> Callable[[str], None]:
        return lambda line: self._say(urn, line)


def _kind(urn: str) -> Kind:
    return kind_of(urn.split("::")[2].rsplit("$", 1)[-1])


def _is_set(settings: Record, name: str) -> bool:
    # The SDK sends the flags of a provider as JSON text.
    return settings.get(name) in (True, "true")


def _members(value: PropertyValue | None) -> Mapping[str, PropertyValue]:
    inner = None if value is None else value.value
    return inner if isinstance(inner, Mapping) else {}


def _effect(found: Difference, kind: Kind) -> sdk.PropertyDiffKind:
    name = found.effect.upper() + ("_REPLACE" if kind.is_fixed(found.path) else "")
    return sdk.PropertyDiffKind[name]


def _sealed(kind: Kind, state: Record, inputs: Properties) -> Properties:
    """Mark as secret whatever was secret among the inputs, where it is seen again, too."""
    secrets = frozenset(name for name, value in inputs.items() if has_secret(value))
    if kind.name == "Secret":
        secrets |= {"data", "stringData"}
    sealed = to_properties(state, secrets)
    said = state.get(INPUTS)
    if isinstance(said, Mapping):
        sealed[INPUTS] = PropertyValue(to_properties(said, secrets))
    return sealed


def main() -> None:
    """Serve until the engine ends this process."""
    serve(sys.argv[1:], VERSION, KubernetesProvider(EngineLog(sys.argv[1]).say))


if __name__ == "__main__":
    main()
