"""The stack's state while an operation runs.

Theory of operation. An operation starts from the *old* rows. Each row it has dealt with moves to
*new*; what is written at any moment is new followed by those old rows not dealt with yet, so that
every row stands behind what it depends on. Before a provider is asked to change the world, the
operation is written as *pending*, with the inputs it is called with; it is cleared by the same
write that records the outcome. A process killed at any point thus leaves either the truth, or the
truth plus the name of the one thing to look at. An operation that failed stays pending too: what a
provider left behind is not known then either.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from .state import Pending, Resource, Snapshot, provider_urn
from .values import Properties


class StateWriter(Protocol):
    """Where a journal puts the state; returns when it is durable."""

    def save(self, resources: list[Resource], pending: list[Pending]) -> None:
        """Replace the whole state."""


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
        and that remains to be deleted. A create adopts what is already there: another old row
        whose thing this row has now is left without one.
        """
        with self._lock:
            former = consumes or retires
            if former is not None and former.urn != row.urn:
                self._renamed[former.urn] = row.urn
            if consumes is not None:
                self._old = [other for other in self._old if other is not consumes]
            if retires is not None:
                retires.delete = True
            for other in self._old:
                if other.has_world and (other.type, other.id) == (row.type, row.id):
                    other.pending_replacement = True
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
