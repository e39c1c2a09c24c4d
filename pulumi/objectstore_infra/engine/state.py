"""The stack's state: rows of Pulumi's deployment format, and its coding.

`Resource` is one row. `encode` and `decode` turn rows into a deployment document and back, secrets
sealed; `verify` checks the order that the format promises. `statefile` keeps the document on disk,
`journal` changes it while an operation runs.

Source: Pulumi's deployment version 3 (`pulumi stack export`).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from .errors import StateError, UnsupportedError
from .passphrase import Crypter, reveal
from .values import Json, Properties

VERSION = 3
# The manifest names the Pulumi whose deployment format this is.
MANIFEST_VERSION = "v3.272.0"
STACK_TYPE = "pulumi:pulumi:Stack"
PROVIDER_PREFIX = "pulumi:providers:"


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
    to be created again. `deleted_with`: the URN of what takes this along when it is deleted, so
    that the provider is not asked to. `extra` holds fields of the format that the engine only
    carries along.
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
    deleted_with: str = ""
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
        urns |= {urn for urn in (self.parent, self.deleted_with) if urn}
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
    "deletedWith": "deleted_with",
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
    if data.get("external"):
        raise UnsupportedError(f"resources that another stack owns ({data.get('urn')})")
    known = {attribute: data[key] for key, attribute in _FIELDS.items() if data.get(key)}
    for bag in ("inputs", "outputs"):
        if crypter is not None and bag in known:
            known[bag] = crypter.open(cast("Properties", known[bag]))
    extra = {key: value for key, value in data.items() if key not in _FIELDS}
    row = Resource(**{"custom": False, **known}, extra=extra)  # type: ignore[arg-type] # the format
    if row.urn.count("::") < 3:
        raise StateError(f"not a URN in the state: {row.urn!r}")
    return row
