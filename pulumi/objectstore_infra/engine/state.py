"""The stack's state: Pulumi's deployment format, kept true after every step.

`Resource` is one row of a deployment; `StateFile` reads and writes the whole, secrets sealed, by
write → fsync → rename → fsync of the folder; `Journal` is the state while an operation runs.

Theory of operation. An operation starts from the `old` rows. Each row it has dealt with moves to
`new`; what is written at any moment is `new` followed by those old rows not dealt with yet, so that
every row stands behind what it depends on. Before a provider is asked to change the world, the
operation is written as *pending*, with the inputs it is called with; it is cleared by the same
write that records the outcome. A process killed at any point thus leaves either the truth, or the
truth plus the name of the one thing to look at.

Source: Pulumi's deployment version 3 (`pulumi stack export`).
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

from .errors import StateError
from .passphrase import Crypter, reveal
from .values import Json, Properties

VERSION = 3
# The manifest names the Pulumi whose deployment format this is.
MANIFEST_VERSION = "v3.272.0"
STACK_TYPE = "pulumi:pulumi:Stack"
PROVIDER_PREFIX = "pulumi:providers:"
LOCK_WAIT_S = 20.0


def make_urn(stack: str, project: str, parent: str, type_: str, name: str) -> str:
    """The URN of a resource: its type is preceded by its parents' types, the stack's left out."""
    if parent and urn_type_chain(parent) != STACK_TYPE:
        type_ = f"{urn_type_chain(parent)}${type_}"
    return f"urn:pulumi:{stack}::{project}::{type_}::{name}"


def urn_type_chain(urn: str) -> str:
    """The types in a URN, joined by `$`."""
    return urn.split("::", 3)[2]


def urn_name(urn: str) -> str:
    """The resource's name in a URN."""
    return urn.split("::", 3)[3]


@dataclass(slots=True)
class Resource:
    """One row of a deployment; secrets in `inputs` and `outputs` are open, but marked.

    `delete`: replaced already, still to be deleted. `pending_replacement`: deleted already, still
    to be created again. `extra` holds fields of the format that the engine only carries along.
    """

    urn: str
    type: str
    custom: bool = True
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    parent: str = ""
    provider: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool = False
    retain_on_delete: bool = False
    delete: bool = False
    pending_replacement: bool = False
    additional_secret_outputs: list[str] = field(default_factory=list)
    ignore_changes: list[str] = field(default_factory=list)
    created: str = ""
    modified: str = ""
    extra: dict[str, Json] = field(default_factory=dict)

    @property
    def is_provider(self) -> bool:
        """Whether this row is a provider, which lives in the state alone."""
        return self.type.startswith(PROVIDER_PREFIX)

    @property
    def has_world(self) -> bool:
        """Whether something outside the state belongs to this row."""
        return self.custom and not self.is_provider and not self.pending_replacement

    @property
    def ref(self) -> str:
        """How other rows name this provider."""
        return f"{self.urn}::{self.id}"

    @property
    def name(self) -> str:
        """The resource's name."""
        return urn_name(self.urn)

    def depends_on(self) -> set[str]:
        """The URNs that must exist as long as this row does."""
        urns = {*self.dependencies, *(u for us in self.property_dependencies.values() for u in us)}
        if self.parent:
            urns.add(self.parent)
        if self.provider:
            urns.add(provider_urn(self.provider))
        return urns - {self.urn}


# The order is the one in which Pulumi writes them.
_FIELDS = {
    "urn": "urn",
    "custom": "custom",
    "delete": "delete",
    "id": "id",
    "type": "type",
    "inputs": "inputs",
    "outputs": "outputs",
    "parent": "parent",
    "protect": "protect",
    "dependencies": "dependencies",
    "provider": "provider",
    "propertyDependencies": "property_dependencies",
    "pendingReplacement": "pending_replacement",
    "additionalSecretOutputs": "additional_secret_outputs",
    "retainOnDelete": "retain_on_delete",
    "created": "created",
    "modified": "modified",
    "ignoreChanges": "ignore_changes",
}


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation that was begun and has no known outcome: creating, updating or deleting."""

    resource: Resource
    type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a state file holds."""

    resources: list[Resource] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    salt: str = ""


class StateWriter(Protocol):
    """Where a journal puts the state; returns when it is durable."""

    def save(self, resources: list[Resource], pending: list[Pending]) -> None:
        """Replace the whole state."""


def provider_urn(ref: str) -> str:
    """The URN in a provider reference `URN::ID`."""
    return ref.rpartition("::")[0]


def now() -> str:
    """The current time as deployments write it."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def encode(
    resources: Iterable[Resource],
    pending: Iterable[Pending],
    crypter: Crypter,
    *,
    show_secrets: bool = False,
) -> dict[str, Json]:
    """The deployment document of a state, secrets sealed unless they are to be shown."""
    seal = reveal if show_secrets else crypter.seal
    deployment: dict[str, Json] = {
        "manifest": {
            "time": now(),
            "magic": hashlib.sha256(MANIFEST_VERSION.encode()).hexdigest(),
            "version": MANIFEST_VERSION,
        },
        "secrets_providers": {"type": "passphrase", "state": {"salt": crypter.salt}},
        "resources": [_encode_resource(row, seal) for row in resources],
        "metadata": {},
    }
    if operations := [
        {"resource": _encode_resource(op.resource, seal), "type": op.type} for op in pending
    ]:
        deployment["pending_operations"] = cast("Json", operations)
    return {"version": VERSION, "deployment": deployment}


def decode(document: object, crypter_for: Callable[[str], Crypter]) -> Snapshot:
    """The state in a deployment document; `crypter_for` gives the crypter of a salt.

    Raises:
        StateError: it is no deployment of version 3, its secrets do not open, or its rows do not
            stand in the order of their dependencies.
    """
    if not isinstance(document, dict) or document.get("version") != VERSION:
        found = document.get("version") if isinstance(document, dict) else None
        raise StateError(f"not a Pulumi deployment of version {VERSION}: version {found!r}")
    deployment = document.get("deployment")
    if not isinstance(deployment, dict):
        raise StateError("the document has no `deployment`")
    provider = deployment.get("secrets_providers") or {}
    if (kind := provider.get("type", "passphrase")) not in ("passphrase", ""):
        raise StateError(
            f"the state's secrets are kept by {kind!r}; only `passphrase` is supported",
            hint="with the real command: pulumi stack change-secrets-provider passphrase",
        )
    salt = str((provider.get("state") or {}).get("salt") or "")
    crypter = crypter_for(salt) if salt else None
    try:
        rows = [_decode_resource(row, crypter) for row in deployment.get("resources") or []]
        pending = [
            Pending(_decode_resource(op["resource"], crypter), str(op["type"]))
            for op in deployment.get("pending_operations") or []
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise StateError(f"a resource in the deployment is not understood: {error!r}") from error
    verify(rows)
    return Snapshot(rows, pending, salt)


def verify(resources: Iterable[Resource]) -> None:
    """Check that every row stands behind what it depends on, and that no URN lives twice.

    Raises:
        StateError: naming the first row where that is not so.
    """
    seen: set[str] = set()
    alive: set[str] = set()
    for row in resources:
        if missing := row.depends_on() - seen:
            raise StateError(f"state: {row.urn} depends on {min(missing)}, which is not before it")
        if not row.delete:
            if row.urn in alive:
                raise StateError(f"state: {row.urn} appears twice")
            alive.add(row.urn)
        seen.add(row.urn)


class StateFile:
    """The state of one stack on disk, and the lock that one operation at a time holds."""

    def __init__(self, state_dir: Path, project: str, stack: str) -> None:
        folder = state_dir / "stacks" / project
        self.path = folder / f"{stack}.json"
        self.lock_path = folder / f"{stack}.lock"
        self._crypter: Crypter | None = None

    def use(self, crypter: Crypter) -> None:
        """Seal what is saved from now on with `crypter`."""
        self._crypter = crypter

    def read_document(self) -> object | None:
        """The document on disk, or None if the stack has none yet.

        Raises:
            StateError: the file cannot be read or is not JSON.
        """
        try:
            return cast("object", json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(f"cannot read the state {self.path}: {error}") from error

    def save(self, resources: list[Resource], pending: list[Pending]) -> None:
        """Replace the state; returns when it is durable."""
        if self._crypter is None:
            raise StateError("the state was not opened for writing")
        self.write_document(encode(resources, pending, self._crypter))

    def write_document(self, document: Mapping[str, Json]) -> None:
        """Replace the state file; returns when it is durable.

        Raises:
            StateError: it cannot be written.
        """
        partial = self.path.with_suffix(".json.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as handle:
                json.dump(document, handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StateError(f"cannot write the state {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Forget the stack; a missing state is fine."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, operation: str, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
        """Hold the stack for one operation; gives the descriptor that carries the lock.

        The lock belongs to the open file, so it also lasts as long as a child process that was
        given the descriptor: an operation that was killed keeps the stack until its providers have
        been stopped too. That takes seconds, which is what the wait is for.

        Raises:
            StateError: another operation holds it; it is named with its process id.
        """
        self.lock_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire(descriptor, wait_s)
            os.ftruncate(descriptor, 0)
            owner = {"pid": os.getpid(), "operation": operation, "since": now()}
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
            try:
                yield descriptor
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def owner(self) -> tuple[int, str] | None:
        """The process id and operation of whoever holds the lock, or None."""
        try:
            data = json.loads(self.lock_path.read_bytes() or b"null")
        except (FileNotFoundError, ValueError):
            return None
        if not data or not Path(f"/proc/{data['pid']}").exists():
            return None
        return int(data["pid"]), f"{data['operation']} since {data['since']}"

    def _acquire(self, descriptor: int, wait_s: float) -> None:
        # A live owner is refused at once: waiting is only for the providers of a dead one.
        waited = threading.Event()
        for _ in range(max(1, int(wait_s / 0.1))):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if owner := self.owner():
                    raise StateError(
                        f"another operation holds this stack: {owner[1]}, process {owner[0]}",
                        hint="wait for it, or stop it with `objectstore stack cancel`",
                    ) from None
                waited.wait(0.1)
            else:
                return
        raise StateError(
            f"the stack is locked: the providers of an interrupted run still hold {self.lock_path}"
        )


class Journal:
    """The state while an operation runs; every change of it is durable when the call returns.

    Safe to use from several threads. Without a writer (in a preview) nothing is written.
    """

    def __init__(self, snapshot: Snapshot, writer: StateWriter | None) -> None:
        self._writer = writer
        self._lock = threading.RLock()
        self._old = list(snapshot.resources)
        self._new: list[Resource] = []
        self._pending = list(snapshot.pending)
        self._renamed: dict[str, str] = {}

    def old(self) -> list[Resource]:
        """The rows not dealt with yet, in order."""
        with self._lock:
            return list(self._old)

    def rows(self) -> list[Resource]:
        """The whole state as it would be written now."""
        with self._lock:
            return [*self._new, *(self._rename(row) for row in self._old)]

    def pending(self) -> list[Pending]:
        """The operations without a known outcome."""
        with self._lock:
            return list(self._pending)

    def find_old(self, urn: str) -> Resource | None:
        """The old row that stands for `urn`, unless it is only waiting to be deleted."""
        with self._lock:
            return next((row for row in self._old if row.urn == urn and not row.delete), None)

    def find(self, urn: str) -> Resource | None:
        """The row that stands for `urn`: the new one, else the old one."""
        with self._lock:
            urn = self._renamed.get(urn, urn)
            return next((row for row in self._new if row.urn == urn), None) or self.find_old(urn)

    def find_provider(self, ref: str) -> Resource | None:
        """The provider row that `ref` names, whatever its URN is called by now.

        A preview does not know the id of a provider yet, so the URN comes first.
        """
        urn, _, provider_id = ref.rpartition("::")
        with self._lock:
            urn = self._renamed.get(urn, urn)
            rows = [row for row in (*self._new, *self._old) if row.is_provider]
        matching = [row for row in rows if row.urn == urn]
        by_id = [row for row in matching or rows if row.id == provider_id]
        return next(iter([*by_id, *matching]), None)

    def interrupted_creates(self) -> list[Pending]:
        """The creates without a known outcome."""
        return [op for op in self.pending() if op.type == "creating"]

    def begin(self, type_: str, resource: Resource) -> None:
        """Record that the world is about to be changed.

        It takes the place of an earlier attempt at the same.
        """
        with self._lock:
            self._end(resource)
            self._pending.append(Pending(resource, type_))
            self._write()

    def clear(self, operation: Pending) -> None:
        """Record that a begun operation is over and left nothing to look at."""
        with self._lock:
            self._pending.remove(operation)
            self._write()

    def put(
        self,
        row: Resource,
        *,
        consumes: Resource | None = None,
        retires: Resource | None = None,
    ) -> None:
        """Record a row as dealt with, which is the outcome of every operation begun on its URN.

        `consumes` is the old row it takes the place of; `retires` is an old row that it replaces
        and that remains to be deleted.
        """
        with self._lock:
            former = consumes or retires
            if former is not None and former.urn != row.urn:
                self._renamed[former.urn] = row.urn
            if consumes is not None:
                self._old = [other for other in self._old if other is not consumes]
            if retires is not None:
                retires.delete = True
            self._new.append(row)
            urns = {row.urn, former.urn if former else row.urn}
            self._pending = [op for op in self._pending if op.resource.urn not in urns]
            self._write()

    def set_outputs(self, urn: str, outputs: Properties) -> None:
        """Record the outputs of a component or the stack."""
        with self._lock:
            for row in self._new:
                if row.urn == urn:
                    row.outputs = outputs
            self._write()

    def remove(self, row: Resource) -> None:
        """Record that a row's resource no longer exists; nothing depends on it any more."""
        with self._lock:
            self._old = [other for other in self._old if other is not row]
            self._end(row)
            self._write()

    def mark_pending_replacement(self, row: Resource) -> None:
        """Record that a row was deleted in order to be created again."""
        with self._lock:
            row.pending_replacement = True
            self._end(row)
            self._write()

    def exchange(self, row: Resource, refreshed: Resource) -> None:
        """Put what was read of a resource in the place of its old row, without writing it yet."""
        with self._lock:
            self._old = [refreshed if other is row else other for other in self._old]

    def drop(self, gone: Iterable[Resource]) -> None:
        """Forget old rows whose resources vanished, and every mention of them."""
        with self._lock:
            rows = list(gone)
            self._old = [row for row in self._old if all(row is not other for other in rows)]
            alive = {row.urn for row in self._old}
            self._old = [_without(row, {r.urn for r in rows} - alive) for row in self._old]
            for row in rows:
                self._end(row)

    def settle(self) -> None:
        """Record that every row was dealt with, so that nothing is pending; then write."""
        with self._lock:
            self._pending.clear()
            self._write()

    def write(self) -> None:
        """Write the state as it is."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._writer is not None:
            self._writer.save(self.rows(), list(self._pending))

    def _end(self, row: Resource) -> None:
        self._pending = [
            op for op in self._pending if (op.resource.urn, op.resource.id) != (row.urn, row.id)
        ]

    def _rename(self, row: Resource) -> Resource:
        names = self._renamed
        if not names or not (row.depends_on() & names.keys()):
            return row
        provider = provider_urn(row.provider)
        ref = row.provider.rpartition("::")[2]
        return replace(
            row,
            parent=names.get(row.parent, row.parent),
            dependencies=[names.get(urn, urn) for urn in row.dependencies],
            property_dependencies={
                key: [names.get(urn, urn) for urn in urns]
                for key, urns in row.property_dependencies.items()
            },
            provider=f"{names[provider]}::{ref}" if provider in names else row.provider,
        )


def _without(row: Resource, gone: set[str]) -> Resource:
    if not (row.depends_on() & gone):
        return row
    return replace(
        row,
        dependencies=[urn for urn in row.dependencies if urn not in gone],
        property_dependencies={
            key: [urn for urn in urns if urn not in gone]
            for key, urns in row.property_dependencies.items()
        },
    )


def _encode_resource(row: Resource, seal: Callable[[Properties], Properties]) -> dict[str, Json]:
    encoded: dict[str, Json] = {}
    for key, attribute in _FIELDS.items():
        value = cast("Json", getattr(row, attribute))
        if key in ("inputs", "outputs"):
            value = seal(cast("Properties", value))
        if value or key == "custom":
            encoded[key] = value
    return {**encoded, **row.extra}


def _decode_resource(data: dict[str, Json], crypter: Crypter | None) -> Resource:
    known = {attribute: data[key] for key, attribute in _FIELDS.items() if data.get(key)}
    for bag in ("inputs", "outputs"):
        if crypter is not None and bag in known:
            known[bag] = crypter.open(cast("Properties", known[bag]))
    extra = {key: value for key, value in data.items() if key not in _FIELDS}
    row = Resource(**{"custom": False, **known}, extra=extra)  # type: ignore[arg-type]
    if row.urn.count("::") < 3:
        raise StateError(f"not a URN in the state: {row.urn!r}")
    return row
