"""What happens when the program registers a resource: check → diff → create, update, replace.

Theory of operation. The program sends a resource as soon as everything it depends on is known, so
resources that do not depend on each other arrive at the same time, on different threads, and their
steps run in parallel. Each finds its old row by URN (or alias), asks its provider what is to be
done, does it, and records the outcome in the journal before the program gets its answer. What is
deleted waits for the end of the program (`deletion`), except under delete-before-replace.

An interrupted create is resumed by creating with the same inputs again (a create adopts what it
half-made before); where the inputs differ by now, what it left is deleted first. An interrupted
update is repeated even where the provider sees no difference.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .deletion import Deleter
from .errors import EngineError, StoppedError, UnsupportedError
from .events import Control, Op, Reporter
from .journal import Journal
from .plugins import Change, Diff, Host, Provider
from .project import StackConfig
from .state import (
    PROVIDER_PREFIX,
    Pending,
    Resource,
    make_urn,
    now,
    provider_urn,
    urn_name,
)
from .values import (
    UNKNOWN,
    Properties,
    keep_secrets,
    mark_secret,
    plain_properties,
    secret,
    secret_texts,
)


@dataclass(frozen=True, slots=True)
class Alias:
    """Another identity a resource may have had; None means unchanged, "" means no parent."""

    urn: str = ""
    name: str | None = None
    type: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What the program asks for: one registered resource.

    `provider` is a reference, empty for the package's default provider of `version`.
    """

    type: str
    name: str
    custom: bool = True
    parent: str = ""
    inputs: Properties = field(default_factory=dict)
    provider: str = ""
    version: str = ""
    dependencies: Sequence[str] = ()
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    delete_before_replace: bool | None = None
    ignore_changes: Sequence[str] = ()
    additional_secret_outputs: Sequence[str] = ()
    aliases: Sequence[Alias] = ()


class Deployment:
    """The steps of one run of the program."""

    def __init__(
        self,
        project: str,
        stack: str,
        journal: Journal,
        host: Host,
        report: Reporter,
        control: Control,
        config: StackConfig,
        *,
        preview: bool,
    ) -> None:
        self._project = project
        self._stack = stack
        self._journal = journal
        self._host = host
        self._report = report
        self._control = control
        self._config = config
        self._preview = preview
        self._lock = threading.Lock()
        self._default_lock = threading.Lock()
        self._seen: set[str] = set()
        self._former_urns: dict[str, str] = {}
        self._deleter = Deleter(journal, host, report, control, preview=preview)
        self._repeat = {op.resource.urn for op in journal.pending() if op.type == "updating"}

    def register(self, goal: Goal) -> Resource:
        """Bring one resource to what the program asks for; gives its row.

        Raises:
            StoppedError: no further step may begin.
            EngineError: the resource cannot be; it has been reported, and no further step begins.
        """
        row = self._row(goal)
        with self._control.step():
            try:
                old = self._claim(goal, row)
                self._report.hide(text for v in row.inputs.values() for text in secret_texts(v))
                if not goal.custom:
                    return self._component(row, old)
                if row.is_provider:
                    return self._provider_row(row, goal.version, old)
                return self._custom(goal, row, old)
            except StoppedError:
                raise
            except EngineError as error:
                self._report.fail(row, str(error))
                self._control.stop(failed=True)
                raise

    def refuse(self, feature: str) -> str:
        """Stop because the program asks for something unsupported; gives the message."""
        message = UnsupportedError(feature).message
        self._report.fail(None, str(UnsupportedError(feature)))
        self._control.stop(failed=True)
        return message

    def register_outputs(self, urn: str, outputs: Properties) -> None:
        """Record the outputs of a component or the stack."""
        self._report.hide(text for v in outputs.values() for text in secret_texts(v))
        self._journal.set_outputs(urn, outputs)

    def finish(self, parallel: int) -> None:
        """After the program's end: delete what it no longer has.

        Raises:
            EngineError: a deletion failed, or something protected would be deleted.
        """
        doomed = self._journal.old()
        self._deleter.refuse_protected(doomed)
        self._deleter.clean_interrupted()
        self._deleter.delete_all(doomed, parallel)
        self._journal.settle()

    def _row(self, goal: Goal) -> Resource:
        return Resource(
            urn=make_urn(self._stack, self._project, goal.parent, goal.type, goal.name),
            type=goal.type,
            custom=goal.custom,
            inputs=dict(goal.inputs),
            parent=goal.parent,
            provider=goal.provider,
            dependencies=sorted(goal.dependencies),
            property_dependencies=goal.property_dependencies if goal.custom else {},
            protect=goal.protect,
            retain_on_delete=goal.retain_on_delete,
            deleted_with=goal.deleted_with,
            additional_secret_outputs=sorted(goal.additional_secret_outputs),
            ignore_changes=sorted(goal.ignore_changes),
        )

    def _claim(self, goal: Goal, row: Resource) -> Resource | None:
        # Finds the old row that this one continues; each can be continued once.
        with self._lock:
            if row.urn in self._seen:
                raise EngineError(
                    f"{row.urn} is registered twice", hint="give one of the two another name"
                )
            self._seen.add(row.urn)
            for urn in (row.urn, *self._alias_urns(goal)):
                old = self._journal.find_old(urn)
                if old is not None and (urn == row.urn or urn not in self._seen):
                    self._seen.add(urn)
                    if urn != row.urn:
                        self._former_urns[row.urn] = urn
                    return old
            return None

    def _alias_urns(self, goal: Goal) -> list[str]:
        found = [alias.urn for alias in goal.aliases if alias.urn]
        # A child of a renamed parent was known below the parent's former URN, and where its name
        # begins with the parent's name, under the parent's former name.
        parents = [goal.parent]
        if former := self._former_urns.get(goal.parent):
            parents.append(former)
        for parent in parents:
            for alias in (Alias(), *(alias for alias in goal.aliases if not alias.urn)):
                above = parent if alias.parent is None else alias.parent
                name = goal.name if alias.name is None else alias.name
                if above == former and above and name.startswith(urn_name(goal.parent)):
                    name = urn_name(above) + name.removeprefix(urn_name(goal.parent))
                type_ = goal.type if alias.type is None else alias.type
                found.append(make_urn(self._stack, self._project, above, type_, name))
        return found

    def _component(self, row: Resource, old: Resource | None) -> Resource:
        op: Op = "same" if old else "create"
        self._report.begin(op, row)
        row.outputs = old.outputs if old else {}
        return self._record(op, row, consumes=old)

    def _provider_row(self, row: Resource, version: str, old: Resource | None) -> Resource:
        settings = self._host.check_config(row, old)
        row.outputs = {**settings, "version": version} if version else settings
        row.inputs = {**row.outputs, "__internal": {}}
        row.id = old.id if old else UNKNOWN if self._preview else str(uuid.uuid4())
        row.provider = ""
        op: Op = "same" if old and old.inputs == row.inputs else "update" if old else "create"
        self._report.begin(op, row, old)
        return self._record(op, row, consumes=old)

    def _default_provider(self, package: str, version: str) -> Resource:
        name = f"default_{version.replace('.', '_')}" if version else "default"
        type_ = f"{PROVIDER_PREFIX}{package}"
        row = Resource(make_urn(self._stack, self._project, "", type_, name), type_)
        with self._default_lock:
            if row.urn in self._seen and (known := self._journal.find(row.urn)):
                return known
            self._seen.add(row.urn)
            settings = self._config.for_package(package)
            row.inputs = {
                key: secret(value) if is_secret else value
                for key, (value, is_secret) in settings.items()
            }
            return self._provider_row(row, version, self._journal.find_old(row.urn))

    def _custom(self, goal: Goal, row: Resource, old: Resource | None) -> Resource:
        if goal.provider:
            provider_row = self._journal.find_provider(goal.provider)
            if provider_row is None:
                raise EngineError(f"unknown provider {goal.provider}")
        else:
            provider_row = self._default_provider(goal.type.split(":")[0], goal.version)
        row.provider = provider_row.ref
        provider = self._host.provider(provider_row)
        if old is not None:
            _ignore_changes(row, old)
        if not provider.configured:
            return self._unknown_provider(row, old)
        row.inputs = provider.check(row, old)
        if old is None or old.pending_replacement:
            return self._create("replace" if old else "create", row, provider, consumes=old)
        diff = provider.diff(row, old)
        if _provider_changed(row, old):
            diff = replace(
                diff,
                changed=True,
                replaces=[*diff.replaces, "provider"],
                changes=[*diff.changes, Change("provider", "update", replaces=True)],
            )
        if diff.changed and diff.replaces:
            return self._replace(goal, row, old, diff, provider)
        for operation in self._interrupted(row, old):
            # A replacement was begun and is not wanted any more; the record ends with this step.
            self._deleter.clean(operation.resource)
        if diff.changed or row.urn in self._repeat or old.urn in self._repeat:
            return self._update(row, old, diff, provider)
        row.id, row.outputs = old.id, mark_secret(old.outputs, row.additional_secret_outputs)
        self._report.begin("same", row)
        return self._record("same", row, consumes=old)

    def _unknown_provider(self, row: Resource, old: Resource | None) -> Resource:
        # Only in a preview: the provider's settings come from a resource not yet created.
        row.id = old.id if old else UNKNOWN
        op: Op = "update" if old else "create"
        self._report.begin(op, row, note="its provider's settings are not known yet")
        return self._record(op, row, consumes=old)

    def _create(
        self,
        op: Op,
        row: Resource,
        provider: Provider,
        *,
        consumes: Resource | None = None,
        retires: Resource | None = None,
        changes: Sequence[Change] = (),
    ) -> Resource:
        interrupted = self._interrupted(row, consumes or retires)
        resumed = [
            operation
            for operation in interrupted
            if plain_properties(operation.resource.inputs) == plain_properties(row.inputs)
            and provider_urn(operation.resource.provider) == provider_urn(row.provider)
        ]
        for operation in interrupted:
            if operation not in resumed:
                self._deleter.clean(operation.resource)
        note = "resumes an interrupted create" if resumed else ""
        self._report.begin(op, row, consumes or retires, changes, note)
        row.id = UNKNOWN
        if not self._preview:
            row.id = ""
            self._journal.begin("creating", replace(row))
        if not self._preview or provider.previews:
            live = provider.create(row, preview=self._preview)
            row.id = live.id or UNKNOWN
            self._take_outputs(row, live.outputs)
        return self._record(op, row, consumes=consumes, retires=retires)

    def _update(self, row: Resource, old: Resource, diff: Diff, provider: Provider) -> Resource:
        note = "" if diff.changed else "repeats an interrupted update"
        self._report.begin("update", row, old, diff.changes, note)
        row.id = old.id
        row.outputs = {**old.outputs, **row.inputs}
        if not self._preview:
            self._journal.begin("updating", replace(old, inputs=row.inputs))
        if not self._preview or provider.previews:
            self._take_outputs(row, provider.update(row, old, preview=self._preview).outputs)
        return self._record("update", row, consumes=old)

    def _replace(
        self, goal: Goal, row: Resource, old: Resource, diff: Diff, provider: Provider
    ) -> Resource:
        if old.protect or row.protect:
            raise EngineError(
                f"protected, so not replaced: {', '.join(diff.replaces)} cannot change in place",
                hint="run `up` with `protect` taken away, or keep the value",
            )
        before = goal.delete_before_replace
        if before is None:
            before = diff.delete_before_replace
        if not before:
            return self._create("replace", row, provider, retires=old, changes=diff.changes)
        doomed = [*self._dependents_to_replace(old), old]
        self._deleter.refuse_protected(doomed)
        for other in doomed:
            self._deleter.delete(other, self._journal.mark_pending_replacement)
        return self._create("replace", row, provider, consumes=old, changes=diff.changes)

    def _dependents_to_replace(self, target: Resource) -> list[Resource]:
        """The old rows that have to go before `target` can, last in the state first.

        A dependent has to go if its provider would replace it once the properties that come from
        what is deleted are unknown.
        """
        gone = {target.urn}
        doomed: list[Resource] = []
        for row in self._journal.old():
            if row is target or not row.has_world or row.delete:
                continue
            inputs = {
                key: UNKNOWN if gone & set(row.property_dependencies.get(key, ())) else value
                for key, value in row.inputs.items()
            }
            if inputs == row.inputs:
                continue
            provider = self._deleter.provider_of(row)
            if provider.configured and provider.diff(replace(row, inputs=inputs), row).replaces:
                gone.add(row.urn)
                doomed.insert(0, row)
        return doomed

    def _interrupted(self, row: Resource, old: Resource | None) -> list[Pending]:
        urns = {row.urn, old.urn if old else row.urn}
        return [op for op in self._journal.interrupted_creates() if op.resource.urn in urns]

    def _take_outputs(self, row: Resource, outputs: Properties) -> None:
        row.outputs = mark_secret(keep_secrets(outputs, row.inputs), row.additional_secret_outputs)
        self._report.hide(text for v in row.outputs.values() for text in secret_texts(v))

    def _record(
        self,
        op: Op,
        row: Resource,
        *,
        consumes: Resource | None = None,
        retires: Resource | None = None,
    ) -> Resource:
        row.created = consumes.created if consumes and op != "replace" else now()
        row.modified = consumes.modified if consumes and op == "same" else now()
        self._journal.put(row, consumes=consumes, retires=retires)
        self._report.end(op, row)
        return row


def _ignore_changes(row: Resource, old: Resource) -> None:
    for name in row.ignore_changes:
        if not name.isidentifier():
            raise UnsupportedError(f"ignore_changes with a path ({name}); name a whole property")
        if name in old.inputs:
            row.inputs[name] = old.inputs[name]
        else:
            row.inputs.pop(name, None)


def _provider_changed(row: Resource, old: Resource) -> bool:
    # A default provider takes over from another one, as when its version changes.
    new_urn, old_urn = provider_urn(row.provider), provider_urn(old.provider)
    both_default = all(urn_name(urn).startswith("default") for urn in (new_urn, old_urn))
    return new_urn != old_urn and not both_default
