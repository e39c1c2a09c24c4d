"""The workloads as the program declares them, out of Pulumi's mocks."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions
from pulumi.runtime import mocks, stack

from objectstore_infra import spec
from objectstore_infra.provider.kubernetes.kinds import Kind, kind_of
from objectstore_infra.workloads import keys
from objectstore_infra.workloads.store import Workloads, WorkloadsArgs

VERSION = "0.4.0+src.0123456789ab"
MASTER_KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True)
class Declared:
    """One object, with its kind and the name of its resource."""

    kind: Kind
    resource: str
    object: dict[str, Any]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])


class Recorder(mocks.Mocks):
    """Notes what is declared."""

    def __init__(self) -> None:
        self.found: list[Declared] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if args.typ.startswith("kubernetes:"):
            kind = kind_of(args.typ)
            whole = {**_plain(args.inputs), "apiVersion": kind.api, "kind": kind.name}
            self.found.append(Declared(kind, args.name, whole))
        return args.name, args.inputs

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program invokes {args.token}")


class Platform(pulumi.ComponentResource):
    """Stands for the platform that the workloads lie in."""

    def __init__(self) -> None:
        super().__init__("test:index:Platform", "platform")


def files(store: str) -> dict[str, str]:
    """What the platform's roles would have left."""
    return {path: f"what {path} holds\n" for path in keys.collected_files(store)}


def declared(**changes: Any) -> list[Declared]:
    """Run the program's part that declares the workloads."""
    parsed = spec.parse(
        {"name": "abc", "domain": "example.test", **changes}, default_version=VERSION
    )
    recorder = Recorder()

    def program() -> None:
        args = WorkloadsArgs(
            spec=parsed,
            files=Output.secret(files("abc")),
            master_key=Output.secret(MASTER_KEY),
            access_key=Output.secret("AK"),
            secret_key=Output.secret("SK"),
        )
        Workloads(args, Platform(), ResourceOptions())

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        mocks.set_mocks(recorder, project="objectstore", stack="test", preview=False)
        loop.run_until_complete(stack.run_pulumi_func(program))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return recorder.found


def _plain(value: Any) -> Any:
    """Without secretness, and whole numbers as such."""
    if isinstance(value, dict):
        if "value" in value and len(value) == 2 and any(len(key) == 32 for key in value):
            return _plain(value["value"])
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
