"""A tiny provider whose world is a folder: one JSON file for each thing.

A thing's id is `NAME-ZONE`. `size`, `note`, `token` and `uses` change in place, `zone` replaces;
`exclusive` things must be deleted before they are replaced. A create writes the file in two steps,
so it can be interrupted half-way, and adopts what is already there.

With TINY_KILL=N, the N-th step that begins, is half-way or is done kills the engine, by the number
of its process, and waits to be ended itself. With TINY_HOLD=FILE, creates
stay half-way while FILE exists.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import grpc
from pulumi.provider.experimental import provider as p
from pulumi.provider.experimental.property_value import PropertyValue, PropertyValueType
from pulumi.provider.experimental.server import main
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

WORLD = Path(os.environ["TINY_WORLD"])
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
IN_PLACE = ("size", "note", "token", "uses", "log", "fail")


def plain(value: PropertyValue) -> object:
    """A property's value as JSON."""
    if isinstance(value.value, (list, tuple)):
        return [plain(part) for part in value.value]
    if hasattr(value.value, "items"):
        return {key: plain(part) for key, part in value.value.items()}
    return value.value


def bag(values: dict[str, PropertyValue]) -> dict[str, object]:
    """Properties as JSON."""
    return {
        key: plain(value) for key, value in values.items() if value.type != PropertyValueType.NULL
    }


class Tiny(p.Provider):
    """See the module."""

    def __init__(self, engine: str) -> None:
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine))
        self._points = 0
        self._kill = int(os.environ.get("TINY_KILL", "0"))

    async def get_schema(self, request: p.GetSchemaRequest) -> p.GetSchemaResponse:
        """No types are described."""
        return p.GetSchemaResponse(json.dumps({"name": "tiny", "version": "0.0.1"}))

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        """Sizes are positive."""
        size = bag(request.new_inputs).get("size", 1)
        failures = []
        if isinstance(size, float) and size <= 0:
            failures = [p.CheckFailure("size", f"must be above 0, not {size:g}")]
        return p.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        """Compare with what the state says."""
        self._point()
        old, new = bag(request.old_state), bag(request.new_inputs)
        changed = [key for key in ("zone", *IN_PLACE) if old.get(key) != new.get(key)]
        if "name" in new and old.get("name") != new["name"]:
            changed.append("name")
        replaces = [key for key in changed if key in ("zone", "name")]
        kinds = p.PropertyDiffKind
        return p.DiffResponse(
            changes=bool(changed),
            replaces=replaces,
            diffs=changed,
            delete_before_replace=bool(replaces) and bool(old.get("exclusive")),
            detailed_diff={
                key: p.PropertyDiff(kinds.UPDATE_REPLACE if key in replaces else kinds.UPDATE, True)
                for key in changed
            },
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        """Write the file, in two steps."""
        if request.preview:
            return p.CreateResponse(properties=_outputs(UNKNOWN, request.properties))
        values = bag(request.properties)
        self._log(request.urn, values)
        if values.get("fail") == "create":
            raise RuntimeError(f"no room for {values['name']}")
        self._point()
        file, hold = _file(values), Path(os.environ.get("TINY_HOLD", "/nonexistent"))
        file.write_text(json.dumps({**values, "half": True}))
        await asyncio.to_thread(_wait_while_exists, hold)
        self._point()
        file.write_text(json.dumps(values))
        self._point()
        return p.CreateResponse(file.stem, _outputs(file.stem, request.properties))

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        """Write the file again."""
        if not request.preview:
            values = bag(request.news)
            self._log(request.urn, values)
            if values.get("fail") == "update":
                raise RuntimeError("no change today")
            self._point()
            (WORLD / f"{request.resource_id}.json").write_text(json.dumps(values))
            self._point()
        return p.UpdateResponse(_outputs(request.resource_id, request.news))

    async def read(self, request: p.ReadRequest) -> p.ReadResponse:
        """Read the file; without an id, find what these inputs left."""
        if request.resource_id:
            file = WORLD / f"{request.resource_id}.json"
        else:
            file = _file(bag(request.inputs))
        if not file.exists():
            return p.ReadResponse(resource_id="")
        values = {key: _value(part) for key, part in json.loads(file.read_text()).items()}
        return p.ReadResponse(file.stem, _outputs(file.stem, values), values)

    async def delete(self, request: p.DeleteRequest) -> None:
        """Remove the file."""
        if bag(request.properties).get("fail") == "delete":
            raise RuntimeError("it stays")
        self._point()
        (WORLD / f"{request.resource_id}.json").unlink(missing_ok=True)
        self._point()

    def _log(self, urn: str, values: dict[str, object]) -> None:
        if "log" in values:
            line = f"{values['log']} {values.get('token', '')}"
            self._engine.Log(engine_pb2.LogRequest(severity=1, urn=urn, message=line))

    def _point(self) -> None:
        self._points += 1
        if self._points == self._kill:
            guard = Path(f"/proc/{os.getppid()}/stat").read_text()
            os.kill(int(guard.rpartition(")")[2].split()[1]), signal.SIGKILL)
            time.sleep(60)


def _wait_while_exists(hold: Path) -> None:
    while hold.exists():
        time.sleep(0.02)


def _file(values: dict[str, object]) -> Path:
    return WORLD / f"{values['name']}-{values['zone']}.json"


def _value(value: object) -> PropertyValue:
    if isinstance(value, list):
        return PropertyValue([_value(part) for part in value])
    return PropertyValue(float(value) if type(value) is int else value)


def _outputs(thing: str, values: dict[str, PropertyValue]) -> dict[str, PropertyValue]:
    path = PropertyValue(thing if thing == UNKNOWN else f"{WORLD.name}/{thing}")
    return {**values, "path": path}


if __name__ == "__main__":
    main(sys.argv[1:], "0.0.1", Tiny(sys.argv[1]))
