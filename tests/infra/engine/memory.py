"""The engine's steps over a world in memory, with a crash at any chosen point.

`World` is what survives a crash: the things and the state's document. `Run` is one process of the
engine; after its crash point it can do nothing more, neither to the world nor to the state.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from objectstore_infra.engine.deletion import Deleter
from objectstore_infra.engine.errors import EngineError, ProviderError
from objectstore_infra.engine.events import Control, Op
from objectstore_infra.engine.journal import Journal
from objectstore_infra.engine.passphrase import Crypter
from objectstore_infra.engine.plugins import Change, Diff, Live
from objectstore_infra.engine.project import StackConfig
from objectstore_infra.engine.refresh import Refresher
from objectstore_infra.engine.state import (
    STACK_TYPE,
    Pending,
    Resource,
    Snapshot,
    decode,
    encode,
    verify,
)
from objectstore_infra.engine.steps import Alias, Deployment, Goal
from objectstore_infra.engine.values import UNKNOWN, Properties, plain_properties, secret

PARALLEL = 3
TYPE = "mem:index:Thing"


class Crash(BaseException):
    """The engine's process is gone."""


@functools.cache
def crypter(salt: str = "") -> Crypter:
    """One crypter for all tests; deriving its key is slow."""
    return Crypter("correct horse", salt)


@dataclasses.dataclass(frozen=True)
class Row:
    """One resource of a test program; the thing is identified by `name` and `zone`."""

    key: str
    name: str
    size: int = 1
    zone: str = "x"
    token: str = ""
    exclusive: bool = False
    fail: str = ""
    uses: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    box: str = ""
    protect: bool = False
    retain: bool = False
    lies_in: str = ""
    before: bool | None = None
    ignore: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class World:
    """What exists outside the engine's process."""

    def __init__(self) -> None:
        self.things: dict[str, Properties] = {}
        self.half: set[str] = set()
        self.document = ""

    def snapshot(self) -> Snapshot:
        """The state as the next process reads it."""
        return decode(json.loads(self.document), crypter) if self.document else Snapshot()

    def rows(self) -> dict[str, Resource]:
        """The things that the state claims, by name of the resource."""
        return {row.name: row for row in self.snapshot().resources if row.has_world}

    def check_agrees(self) -> None:
        """Assert that the state says no more and no less than what exists."""
        snapshot = self.snapshot()
        claimed = {
            row.id: plain_properties(row.inputs) for row in snapshot.resources if row.has_world
        }
        assert claimed == self.things
        assert not self.half
        assert not snapshot.pending
        assert not [row for row in snapshot.resources if row.delete or row.pending_replacement]


class Run:
    """One process of the engine; it reports to itself and is its own provider."""

    configured = True
    previews = True

    def __init__(self, world: World, crash_at: int = 0, *, preview: bool = False) -> None:
        self.world = world
        self.counts: Counter[Op] = Counter()
        self.failures: list[str] = []
        self.calls: list[str] = []
        self._crash_at = crash_at
        self._points = 0
        self.control = Control()
        self.journal = Journal(world.snapshot(), None if preview else self)
        self.deleter = Deleter(self.journal, self, self, self.control, preview=preview)
        self.refresher = Refresher(self.journal, self.deleter, self, self.control)
        self.deployment = Deployment(
            "proj", "dev", self.journal, self, self, self.control, StackConfig(), preview=preview
        )

    def up(self, rows: Sequence[Row]) -> None:
        """Run a program of `rows` to its end.

        Raises:
            EngineError: a step failed.
        """
        self.refresher.recover(PARALLEL)
        root = self.deployment.register(Goal(STACK_TYPE, "proj-dev", custom=False))
        urns: dict[str, str] = {}
        paths: dict[str, Resource] = {}
        for row in rows:
            parent = root.urn
            if row.box:
                if row.box not in urns:
                    goal = Goal("mem:index:Box", row.box, custom=False, parent=root.urn)
                    urns[row.box] = self.deployment.register(goal).urn
                parent = urns[row.box]
            paths[row.key] = self.deployment.register(_goal(row, parent, paths))
        self.deployment.finish(PARALLEL)

    def destroy(self) -> None:
        """Delete everything.

        Raises:
            EngineError: a step failed.
        """
        self.refresher.recover(PARALLEL)
        self.deleter.refuse_protected(self.journal.old())
        self.deleter.clean_interrupted()
        self.deleter.delete_all(self.journal.old(), PARALLEL)

    # the state's writer

    def save(self, resources: list[Resource], pending: list[Pending]) -> None:
        """Keep the state; it may be the last thing before or after a crash."""
        verify(resources)
        self._point()
        self.world.document = json.dumps(encode(resources, pending, crypter()))
        self._point()

    # the provider and its host

    def provider(self, row: Resource) -> Run:
        """The only provider there is."""
        assert row.is_provider
        return self

    def check_config(self, row: Resource, old: Resource | None) -> Properties:
        """The provider has no settings."""
        del row, old
        return {}

    def check(self, row: Resource, old: Resource | None) -> Properties:
        """Sizes are positive."""
        del old
        if not isinstance(row.inputs["size"], int) or row.inputs["size"] <= 0:
            raise ProviderError("size: must be above 0")
        return row.inputs

    def diff(self, row: Resource, old: Resource) -> Diff:
        """Name and zone replace; an exclusive thing goes before its replacement comes."""
        new, was = plain_properties(row.inputs), plain_properties(old.outputs)
        was.pop("path", None)
        changed = [key for key in sorted(new.keys() | was.keys()) if new.get(key) != was.get(key)]
        # A thing that stands on an exclusive one cannot change what it stands on.
        immovable = {"name", "zone", *(["uses"] if new.get("exclusive") else [])}
        replaces = [key for key in changed if key in immovable]
        return Diff(
            bool(changed),
            replaces,
            [Change(key, "update", key in replaces) for key in changed],
            bool(replaces) and bool(was.get("exclusive")),
        )

    def create(self, row: Resource, *, preview: bool) -> Live:
        """Make a thing in two steps, or adopt what is there."""
        if preview:
            return Live("", {**row.inputs, "path": UNKNOWN})
        self._call("create", row)
        values = plain_properties(row.inputs)
        thing = _thing_id(values)
        if thing not in self.world.things:
            self.world.half.add(thing)
        self._point()
        if values.get("fail") == "create":
            raise ProviderError("no room")
        self.world.half.discard(thing)
        self.world.things[thing] = values
        self._point()
        return Live(thing, {**row.inputs, "path": f"at/{thing}"})

    def update(self, row: Resource, old: Resource, *, preview: bool) -> Live:
        """Change a thing in place."""
        if not preview:
            self._call("update", row)
            if row.inputs.get("fail") == "update":
                raise ProviderError("no change today")
            assert old.id in self.world.things
            self.world.things[old.id] = plain_properties(row.inputs)
            self._point()
        return Live(old.id, {**row.inputs, "path": f"at/{old.id}"})

    def read(self, row: Resource) -> Live:
        """Look at a thing; without an id, for what these inputs would have made."""
        thing = row.id or _thing_id(plain_properties(row.inputs))
        if thing in self.world.half:
            return Live(thing, dict(row.inputs))
        if thing not in self.world.things:
            return Live("", {})
        found = self.world.things[thing]
        return Live(thing, {**found, "path": f"at/{thing}"}, found)

    def delete(self, row: Resource) -> None:
        """Remove a thing; one that is gone is fine."""
        self._call("delete", row)
        if row.inputs.get("fail") == "delete":
            raise ProviderError("it stays")
        self.world.things.pop(row.id, None)
        self.world.half.discard(row.id)
        self._point()

    # the reporter

    def begin(self, op: Op, row: Resource, *about: object, **more: object) -> None:
        """Nothing is shown."""

    def end(self, op: Op, row: Resource) -> None:
        """Count what was done to things."""
        if row.type == TYPE:
            self.counts[op] += 1

    def fail(self, row: Resource | None, message: str) -> None:
        """Remember a failure."""
        self.failures.append(f"{row.name if row else 'program'}: {message}")

    def hide(self, texts: Iterable[str]) -> None:
        """Nothing is shown."""
        list(texts)

    def _call(self, what: str, row: Resource) -> None:
        self.calls.append(f"{what} {row.name}")
        self._point()

    def _point(self) -> None:
        self._points += 1
        if self._crash_at and self._points >= self._crash_at:
            raise Crash


def survive(work: Callable[[], None]) -> bool:
    """Do `work`, which may crash or fail; says whether it came to its end."""
    try:
        work()
    except (Crash, EngineError):
        return False
    return True


def _goal(row: Row, parent: str, things: dict[str, Resource]) -> Goal:
    inputs: Properties = {"name": row.name, "size": row.size, "zone": row.zone}
    if row.token:
        inputs["token"] = secret(row.token)
    if row.exclusive:
        inputs["exclusive"] = True
    if row.fail:
        inputs["fail"] = row.fail
    if row.uses:
        inputs["uses"] = [things[key].outputs["path"] for key in row.uses]
    used = sorted(things[key].urn for key in row.uses)
    return Goal(
        TYPE,
        row.key,
        parent=parent,
        inputs=inputs,
        dependencies=sorted({*used, *(things[key].urn for key in row.after)}),
        property_dependencies={"uses": used} if used else {},
        protect=row.protect,
        retain_on_delete=row.retain,
        deleted_with=things[row.lies_in].urn if row.lies_in else "",
        delete_before_replace=row.before,
        ignore_changes=row.ignore,
        aliases=[Alias(name=name) for name in row.aliases],
    )


def _thing_id(values: Properties) -> str:
    return f"{values['name']}-{values['zone']}"
