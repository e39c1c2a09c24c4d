"""The provider's process: Pulumi's protocol on one side, the handlers on the other.

Every call runs in a thread of its own, so that the machines of a store are made side by side.
Run as `python -m objectstore_infra.provider.server ENGINE_ADDRESS`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping

from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import main as serve

from objectstore_infra.provider import PACKAGE, VERSION
from objectstore_infra.provider.configuration import ConfigurationRun, OperatorFiles
from objectstore_infra.provider.engine_log import EngineLog
from objectstore_infra.provider.handler import Context, Handler, OnChange
from objectstore_infra.provider.identity import Credentials, MasterKey, SshKey
from objectstore_infra.provider.image import NodeImage
from objectstore_infra.provider.instance import Instance
from objectstore_infra.provider.network import AddressReservation, Network
from objectstore_infra.provider.values import UNKNOWN, Plain, Record, to_properties, to_record
from objectstore_infra.substrates.base import Substrate
from objectstore_infra.substrates.incus import IncusSubstrate
from objectstore_infra.substrates.incus_client import DEFAULT_SOCKET

HANDLERS: dict[str, Handler] = {
    f"{PACKAGE}:index:{handler.type_name}": handler
    for handler in (
        Network(),
        AddressReservation(),
        NodeImage(),
        SshKey(),
        Credentials(),
        MasterKey(),
        Instance(),
        OperatorFiles(),
        ConfigurationRun(),
    )
}

Properties = dict[str, PropertyValue]
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ObjectStoreProvider(sdk.Provider):
    """Dispatches the protocol's requests to the handlers."""

    def __init__(
        self,
        say: Callable[[str, str], None],
        make_substrate: Callable[[str, str], Substrate] = IncusSubstrate,
    ) -> None:
        self._say = say
        self._make_substrate = make_substrate
        self._substrate: Substrate | None = None

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:
        """Return the least schema that names the package."""
        return sdk.GetSchemaResponse(json.dumps({"name": PACKAGE, "version": VERSION}))

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        """Take the substrate's settings."""
        settings = to_record(request.args)
        self._substrate = self._make_substrate(
            str(settings.get("incusSocket") or DEFAULT_SOCKET),
            str(settings.get("incusStoragePool") or "default"),
        )
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Refuse inputs that are wrong, by name."""
        failures = self._handler(request.urn).check(to_record(request.new_inputs))
        return sdk.CheckResponse(
            inputs=request.new_inputs,
            failures=[sdk.CheckFailure(name, reason) for name, reason in failures],
        )

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """Say which inputs differ from the state and what that leads to."""
        state, inputs = to_record(request.old_state), to_record(request.new_inputs)
        changed = {
            name: effect
            for name, effect in self._handler(request.urn).changed(state, inputs).items()
            if name not in request.ignore_changes
        }
        replaces = [name for name, effect in changed.items() if effect is OnChange.REPLACE]
        return sdk.DiffResponse(
            changes=bool(changed),
            diffs=list(changed),
            replaces=replaces,
            # Names and addresses are fixed, so the old one has to go before the new one comes.
            delete_before_replace=bool(replaces),
            detailed_diff={
                path: sdk.PropertyDiff(kind, input_diff=False)
                for name, effect in changed.items()
                for path, kind in _paths(name, state.get(name), inputs.get(name), effect)
            },
        )

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Make the resource; in a preview only say what will be known later."""
        handler = self._handler(request.urn)
        inputs = to_record(request.properties)
        if request.preview:
            return sdk.CreateResponse(properties=_seal(handler, inputs | _unknown(handler)))
        resource_id, outputs = await asyncio.to_thread(
            handler.create, self._context(request.urn), inputs
        )
        return sdk.CreateResponse(resource_id, _seal(handler, inputs | outputs))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """Look at the resource in the world; an empty id in the answer says that it is gone."""
        handler = self._handler(request.urn)
        known_inputs, known = to_record(request.inputs), to_record(request.properties)
        found = await asyncio.to_thread(
            handler.read, self._context(request.urn), request.resource_id, known_inputs | known
        )
        if found is None:
            return sdk.ReadResponse(resource_id="")
        inputs = {name: found.state[name] for name in handler.inputs if name in found.state}
        return sdk.ReadResponse(
            found.resource_id, _seal(handler, found.state), _seal(handler, inputs)
        )

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        """Change the resource in place."""
        handler = self._handler(request.urn)
        state, inputs = to_record(request.olds), to_record(request.news)
        kept = {name: state[name] for name in handler.outputs if name in state}
        if request.preview:
            return sdk.UpdateResponse(_seal(handler, inputs | kept))
        outputs = await asyncio.to_thread(
            handler.update, self._context(request.urn), request.resource_id, state, inputs
        )
        return sdk.UpdateResponse(_seal(handler, inputs | kept | outputs))

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Remove the resource."""
        await asyncio.to_thread(
            self._handler(request.urn).delete,
            self._context(request.urn),
            request.resource_id,
            to_record(request.properties),
        )

    def _handler(self, urn: str) -> Handler:
        token = urn.split("::")[2].rsplit("$", 1)[-1]
        try:
            return HANDLERS[token]
        except KeyError:
            known = ", ".join(sorted(HANDLERS))
            raise ValueError(f"{token} is none of this provider's types: {known}") from None

    def _context(self, urn: str) -> Context:
        if self._substrate is None:
            raise ValueError("the provider was not configured before its first use")
        return Context(self._substrate, lambda line: self._say(urn, line))


_KINDS = {
    ("add", False): sdk.PropertyDiffKind.ADD,
    ("add", True): sdk.PropertyDiffKind.ADD_REPLACE,
    ("delete", False): sdk.PropertyDiffKind.DELETE,
    ("delete", True): sdk.PropertyDiffKind.DELETE_REPLACE,
    ("update", False): sdk.PropertyDiffKind.UPDATE,
    ("update", True): sdk.PropertyDiffKind.UPDATE_REPLACE,
}


def _paths(
    path: str, old: Plain, new: Plain, effect: OnChange
) -> Iterator[tuple[str, sdk.PropertyDiffKind]]:
    """Yield the path of each value that differs, in Pulumi's notation, with what happened."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                inner = f"{path}.{key}" if _PLAIN_KEY.fullmatch(key) else f'{path}["{key}"]'
                yield from _paths(inner, old.get(key), new.get(key), effect)
        return
    what = "add" if old is None else "delete" if new is None else "update"
    yield path, _KINDS[what, effect is OnChange.REPLACE]


def _unknown(handler: Handler) -> Record:
    return dict.fromkeys(handler.outputs, UNKNOWN)


def _seal(handler: Handler, record: Record) -> Properties:
    return to_properties(record, handler.secrets)


def main() -> None:
    """Serve until the engine ends this process."""
    serve(sys.argv[1:], VERSION, ObjectStoreProvider(EngineLog(sys.argv[1]).say))


if __name__ == "__main__":
    main()
