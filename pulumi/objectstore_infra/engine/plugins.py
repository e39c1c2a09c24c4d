"""Provider plugins: processes that speak Pulumi's ResourceProvider protocol.

`Provider` is what the engine wants of one; `Plugin` is that over gRPC; `PluginHost` starts the
plugins that the stack's provider rows name, once each, and stops them all. A plugin prints its port
on standard output; its standard error is shown as it comes. `guard` ends it with the engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, TypeVar, cast

import grpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from .errors import EngineError, ProviderError, StoppedError
from .state import Resource
from .values import (
    Properties,
    from_struct,
    has_secret,
    has_unknown,
    keep_secrets,
    plain_properties,
    to_struct,
)

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 400 << 20),
    ("grpc.max_send_message_length", 400 << 20),
]
# Providers that come with the engine, unless the project names one of its own. The `pulumi` command
# does not know them and runs those of the resources' own packages.
BUILT_IN = {"kubernetes": Path(__file__).resolve().parents[2] / "plugin" / "embedded"}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_NOISE_BEFORE = re.compile(r"\A(Unexpected <class '[\w.]+'>: |Exception iterating \w+: )+")
_NOISE_AFTER = re.compile(r":?\s*\n  File \".*\Z", re.DOTALL)

_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Change:
    """One property that differs: `kind` is add, delete or update; `replaces` if it forces one."""

    path: str
    kind: str
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """A provider's judgement of old against new."""

    changed: bool
    replaces: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    delete_before_replace: bool = False


@dataclass(frozen=True, slots=True)
class Live:
    """A resource as its provider reports it; an empty id says that it does not exist."""

    id: str
    outputs: Properties
    inputs: Properties = field(default_factory=dict)


class Provider(Protocol):
    """What the engine asks of a provider. Every method may raise `ProviderError`.

    `configured` is false in a preview that does not know the provider's settings yet; then none of
    the methods may be called. Convention beyond Pulumi's protocol: `read` of a resource with an
    empty id asks for what an interrupted create with these inputs left behind, and answers an
    empty id when that is nothing.
    """

    configured: bool
    previews: bool

    def check(self, row: Resource, old: Resource | None) -> Properties:
        """Validate `row.inputs`; gives them with defaults filled in."""

    def diff(self, row: Resource, old: Resource) -> Diff:
        """Compare the checked inputs of `row` with the `old` resource."""

    def create(self, row: Resource, *, preview: bool) -> Live:
        """Create the resource."""

    def update(self, row: Resource, old: Resource, *, preview: bool) -> Live:
        """Change the `old` resource to the inputs of `row`."""

    def read(self, row: Resource) -> Live:
        """Look at the resource."""

    def delete(self, row: Resource) -> None:
        """Delete the resource; one that is gone already is deleted."""


class Host(Protocol):
    """Finds the provider of a resource."""

    def provider(self, row: Resource) -> Provider:
        """The running, configured provider that a provider row stands for."""

    def check_config(self, row: Resource, old: Resource | None) -> Properties:
        """Validate the settings of a provider row."""


class Plugin:
    """A provider in a process of its own."""

    def __init__(
        self,
        executable: Path,
        engine_address: str,
        lock: int | None,
        on_line: Callable[[str], None],
    ) -> None:
        """Start the plugin and connect to it.

        Raises:
            ProviderError: it does not start or prints no port.
        """
        self.configured = False
        self.previews = True
        self._name = executable.name
        self._accepts_secrets = True
        guard = Path(__file__).with_name("guard.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard), str(executable), engine_address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            # Our own plugin is a script that starts this Python where it is told which.
            env={"OBJECTSTORE_PYTHON": sys.executable, **os.environ},
        )
        stdout, stderr = (
            cast("IO[str]", self._process.stdout),
            cast("IO[str]", self._process.stderr),
        )
        _pump(stderr, on_line)
        port = self._read_port(stdout)
        _pump(stdout, on_line)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)

    def configure(self, row: Resource) -> None:
        """Hand over the settings of the provider row, unless a preview does not know them."""
        args = {k: v for k, v in row.inputs.items() if k not in ("__internal", "version")}
        if has_unknown(args):
            return
        # Providers differ in which of the two they read: typed arguments or JSON variables.
        package = row.type.rpartition(":")[2]
        variables = {
            f"{package}:config:{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in plain_properties(args).items()
        }
        response = self._call(
            self._stub.Configure,
            provider_pb2.ConfigureRequest(
                args=to_struct(args),
                variables=variables,
                acceptSecrets=True,
                acceptResources=True,
                sends_old_inputs=True,
                sends_old_inputs_to_delete=True,
                urn=row.urn,
                name=row.name,
                type=row.type,
                id=row.id,
            ),
        )
        self._accepts_secrets = response.acceptSecrets
        self.previews = response.supportsPreview
        self.configured = True

    def check_config(self, row: Resource, old: Resource | None) -> Properties:
        """Validate the settings of the provider row."""
        settings = {k: v for k, v in row.inputs.items() if k not in ("__internal", "version")}
        request = provider_pb2.CheckRequest(
            urn=row.urn,
            name=row.name,
            type=row.type,
            olds=to_struct(old.inputs if old else {}),
            news=to_struct(settings),
        )
        return self._checked(self._call(self._stub.CheckConfig, request), row, settings)

    def check(self, row: Resource, old: Resource | None) -> Properties:
        """Validate `row.inputs`; gives them with defaults filled in."""
        request = provider_pb2.CheckRequest(
            urn=row.urn,
            name=row.name,
            type=row.type,
            olds=self._send(old.inputs if old else {}),
            news=self._send(row.inputs),
            randomSeed=hashlib.sha256(row.urn.encode()).digest(),
        )
        return self._checked(self._call(self._stub.Check, request), row, row.inputs)

    def diff(self, row: Resource, old: Resource) -> Diff:
        """Compare the checked inputs of `row` with the `old` resource."""
        response = self._call(
            self._stub.Diff,
            provider_pb2.DiffRequest(
                id=old.id,
                urn=row.urn,
                name=row.name,
                type=row.type,
                olds=self._send(old.outputs),
                news=self._send(row.inputs),
                old_inputs=self._send(old.inputs),
                ignoreChanges=row.ignore_changes,
            ),
        )
        changed = response.changes == provider_pb2.DiffResponse.DIFF_SOME
        if response.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN:
            changed = plain_properties(row.inputs) != plain_properties(old.inputs)
        replaces = list(response.replaces)
        changes = [_change(path, row) for path, row in sorted(response.detailedDiff.items())]
        if not changes:
            changes = [Change(name, "update", name in replaces) for name in response.diffs]
        replaces += [c.path for c in changes if c.replaces and c.path not in replaces]
        return Diff(changed, replaces, changes, response.deleteBeforeReplace)

    def create(self, row: Resource, *, preview: bool) -> Live:
        """Create the resource."""
        response = self._call(
            self._stub.Create,
            provider_pb2.CreateRequest(
                urn=row.urn,
                name=row.name,
                type=row.type,
                properties=self._send(row.inputs),
                preview=preview,
            ),
        )
        if not preview and not response.id:
            raise ProviderError(f"{self._name} created {row.urn} without giving it an id")
        return Live(response.id, self._received(response.properties, row))

    def update(self, row: Resource, old: Resource, *, preview: bool) -> Live:
        """Change the `old` resource to the inputs of `row`."""
        response = self._call(
            self._stub.Update,
            provider_pb2.UpdateRequest(
                id=old.id,
                urn=row.urn,
                name=row.name,
                type=row.type,
                olds=self._send(old.outputs),
                news=self._send(row.inputs),
                old_inputs=self._send(old.inputs),
                ignoreChanges=row.ignore_changes,
                preview=preview,
            ),
        )
        return Live(old.id, self._received(response.properties, row))

    def read(self, row: Resource) -> Live:
        """Look at the resource."""
        response = self._call(
            self._stub.Read,
            provider_pb2.ReadRequest(
                id=row.id,
                urn=row.urn,
                name=row.name,
                type=row.type,
                properties=self._send(row.outputs),
                inputs=self._send(row.inputs),
            ),
        )
        outputs = keep_secrets(self._received(response.properties, row), row.outputs)
        return Live(response.id, outputs, keep_secrets(from_struct(response.inputs), row.inputs))

    def delete(self, row: Resource) -> None:
        """Delete the resource; one that is gone already is deleted."""
        self._call(
            self._stub.Delete,
            provider_pb2.DeleteRequest(
                id=row.id,
                urn=row.urn,
                name=row.name,
                type=row.type,
                properties=self._send(row.outputs),
                old_inputs=self._send(row.inputs),
            ),
        )

    def stop(self) -> None:
        """End the process, and what it started."""
        self._channel.close()
        self._end_process()

    def _call(self, method: Callable[[object], _Response], request: object) -> _Response:
        try:
            return method(request)
        except grpc.RpcError as error:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ProviderError(f"the provider {self._name} ended with code {code}") from error
            raise ProviderError(_clean(str(error.details() or error.code()))) from error

    def _send(self, properties: Properties) -> object:
        return to_struct(properties if self._accepts_secrets else plain_properties(properties))

    def _received(self, properties: object, row: Resource) -> Properties:
        received = from_struct(properties)
        # A provider that was sent plain text cannot have marked it.
        return received if self._accepts_secrets else keep_secrets(received, row.inputs)

    def _checked(
        self, response: provider_pb2.CheckResponse, row: Resource, sent: Properties
    ) -> Properties:
        if response.failures:
            problems = [
                f"{f.property}: {f.reason}" if f.property else f.reason for f in response.failures
            ]
            raise ProviderError("\n".join(problems))
        return keep_secrets(
            from_struct(response.inputs), {k: v for k, v in sent.items() if has_secret(v)}
        )

    def _read_port(self, stream: IO[str]) -> int:
        ready, _, _ = select.select([stream], [], [], START_TIMEOUT_S)
        line = stream.readline().strip() if ready else ""
        if line.isdigit():
            return int(line)
        self._end_process()
        why = f"printed {line!r} instead of its port" if ready else "printed no port"
        raise ProviderError(f"the provider {self._name} {why}", hint="see its output above")

    def _end_process(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class PluginHost:
    """The plugins of one operation, started when they are first needed."""

    def __init__(
        self,
        directories: Mapping[str, Path],
        engine_address: str,
        on_line: Callable[[str, str], None],
        lock: int | None = None,
    ) -> None:
        """`directories` holds the folders of known plugins; `on_line` gets (plugin, line)."""
        self._directories = directories
        self._engine_address = engine_address
        self._on_line = on_line
        self._stack_lock = lock
        self._guard = threading.Lock()
        self._plugins: list[Plugin] = []
        self._current: dict[str, Plugin] = {}
        self._settings: dict[str, Properties] = {}
        self._stopped = False

    def provider(self, row: Resource) -> Provider:
        """The running, configured provider that a provider row stands for."""
        with self._guard:
            if self._settings.get(row.urn, row.inputs) != row.inputs:
                # A plugin is configured once; changed settings need another process.
                del self._current[row.urn], self._settings[row.urn]
            plugin = self._started(row)
            if not plugin.configured:
                plugin.configure(row)
                self._settings[row.urn] = row.inputs
        return plugin

    def check_config(self, row: Resource, old: Resource | None) -> Properties:
        """Validate the settings of a provider row."""
        with self._guard:
            plugin = self._started(row)
        return plugin.check_config(row, old)

    def stop(self) -> None:
        """End every plugin; none is started after this."""
        with self._guard:
            self._stopped = True
            plugins = list(self._plugins)
        for plugin in plugins:
            plugin.stop()

    def _started(self, row: Resource) -> Plugin:
        if self._stopped:
            raise StoppedError
        if row.urn not in self._current:
            name = row.type.rpartition(":")[2]
            plugin = Plugin(
                self._executable(name),
                self._engine_address,
                self._stack_lock,
                lambda line: self._on_line(name, line),
            )
            self._plugins.append(plugin)
            self._current[row.urn] = plugin
        return self._current[row.urn]

    def _executable(self, name: str) -> Path:
        file_name = f"pulumi-resource-{name}"
        if directory := self._directories.get(name) or BUILT_IN.get(name):
            executable = directory / file_name
            if os.access(executable, os.X_OK):
                return executable
            raise EngineError(f"provider {name!r}: {executable} is missing or not executable")
        if found := shutil.which(file_name):
            return Path(found)
        raise EngineError(
            f"no provider {name!r}: Pulumi.yaml names none under plugins.providers, and there is no"
            f" {file_name} on the PATH"
        )


def _change(path: str, row: provider_pb2.PropertyDiff) -> Change:
    kind = provider_pb2.PropertyDiff.Kind.Name(row.kind).lower()
    return Change(path, kind.removesuffix("_replace"), kind.endswith("_replace"))


def _pump(stream: IO[str], on_line: Callable[[str], None]) -> None:
    def pump() -> None:
        with contextlib.suppress(ValueError):  # the stream was closed
            for line in stream:
                if text := line.rstrip():
                    on_line(text)

    threading.Thread(target=pump, daemon=True, name="plugin-output").start()


def _clean(details: str) -> str:
    return _NOISE_AFTER.sub("", _NOISE_BEFORE.sub("", details)).strip()
