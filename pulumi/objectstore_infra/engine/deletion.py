"""Deleting what a stack no longer has, dependents first, in parallel where nothing orders it.

A dependency is named by URN, but a URN may stand for two rows: the replacement and the replaced row
that remains to be deleted. A row depends on the nearest row of that URN standing *before* it in the
state, which is the one it was created with.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from dataclasses import replace

from .errors import EngineError, StoppedError
from .events import Control, Reporter
from .journal import Journal
from .plugins import Host, Live, Provider
from .state import Resource, urn_name


class Deleter:
    """Deletes rows through their providers and records each deletion."""

    def __init__(
        self, journal: Journal, host: Host, report: Reporter, control: Control, *, preview: bool
    ) -> None:
        self._journal = journal
        self._host = host
        self._report = report
        self._control = control
        self._preview = preview

    def refuse_protected(self, rows: Sequence[Resource]) -> None:
        """Make sure that none of `rows` is protected.

        Raises:
            EngineError: one is.
        """
        if held := [row for row in rows if row.protect and not row.delete]:
            names = ", ".join(f"{row.name} ({row.type})" for row in held)
            raise EngineError(
                f"protected, so not deleted: {names}",
                hint="run `up` with `protect` taken away from it, then delete it",
            )

    def delete_all(self, rows: Sequence[Resource], parallel: int) -> None:
        """Delete `rows`, given in the order of the state; a failure lets running ones finish.

        What goes along with another one of them is only taken out of the state.

        Raises:
            EngineError: a deletion failed, or one of the rows is protected.
        """
        self.refuse_protected(rows)
        waits = _dependents(rows)
        going = {row.urn for row in rows if not row.delete}
        failures: list[EngineError] = []
        with concurrent.futures.ThreadPoolExecutor(parallel, "delete") as pool:
            running: dict[concurrent.futures.Future[None], int] = {}
            left = set(range(len(rows)))
            while running or (left and not failures):
                for index in sorted(left, reverse=True):
                    if not failures and not waits[index]:
                        left.remove(index)
                        row = rows[index]
                        along = row.deleted_with in going
                        running[pool.submit(self.delete, row, along=along)] = index
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    index = running.pop(future)
                    try:
                        future.result()
                    except EngineError as error:
                        failures.append(error)
                    else:
                        for others in waits:
                            others.discard(index)
        if failures:
            raise next((e for e in failures if not isinstance(e, StoppedError)), failures[0])

    def delete(
        self,
        row: Resource,
        then: Callable[[Resource], None] | None = None,
        *,
        along: bool = False,
    ) -> None:
        """Delete one row's resource; `then` records it, by default as removed.

        `along`: what it lies in is deleted, too, so that there is nothing to do.

        Raises:
            EngineError: the provider failed, or the operation is stopping.
        """
        record = then or self._journal.remove
        kept = row.has_world and row.retain_on_delete
        with self._control.step():
            note = "replaced" if row.delete or then else ""
            note = f"goes with {urn_name(row.deleted_with)}" if along else note
            self._report.begin("retain" if kept else "delete", row, note=note)
            if row.has_world and not kept and not along and not self._preview:
                provider = self.provider_of(row)
                self._journal.begin("deleting", row)
                try:
                    provider.delete(row)
                except EngineError as error:
                    self._report.fail(row, str(error))
                    self._control.stop(failed=True)
                    raise
            record(row)
            self._report.end("retain" if kept else "delete", row)

    def clean_interrupted(self) -> None:
        """Delete what interrupted creates left behind.

        Raises:
            EngineError: a provider failed.
        """
        for operation in self._journal.interrupted_creates():
            with self._control.step():
                self.clean(operation.resource)
                self._journal.clear(operation)

    def clean(self, row: Resource) -> None:
        """Delete what an interrupted create of `row` left behind, if it left anything.

        Raises:
            EngineError: the provider failed.
        """
        found = self.look_for(row)
        rows = [other for other in self._journal.rows() if other.has_world]
        if not found.id or (row.type, found.id) in {(other.type, other.id) for other in rows}:
            return
        left_over = Resource(
            urn=row.urn,
            type=row.type,
            id=found.id,
            inputs=row.inputs,
            outputs=found.outputs,
            provider=row.provider,
        )
        self._report.begin("clean", left_over, note="left by an interrupted create")
        if not self._preview:
            self.provider_of(row).delete(left_over)
        self._report.end("clean", left_over)

    def look_for(self, row: Resource) -> Live:
        """What an interrupted create of `row` left behind; an empty id if nothing is known of it.

        Raises:
            EngineError: the provider failed.
        """
        provider = self.provider_of(row)
        return provider.read(replace(row, id="")) if provider.configured else Live("", {})

    def provider_of(self, row: Resource) -> Provider:
        """The provider that `row` was created with.

        Raises:
            EngineError: the state does not have it, or it does not start.
        """
        found = self._journal.find_provider(row.provider)
        if found is None:
            raise EngineError(f"{row.urn}: its provider {row.provider} is not in the state")
        return self._host.provider(found)


def _dependents(rows: Sequence[Resource]) -> list[set[int]]:
    # By index: which rows must be gone before the one at this index may go.
    dependents: list[set[int]] = [set() for _ in rows]
    nearest: dict[str, int] = {}
    for index, row in enumerate(rows):
        for urn in row.depends_on():
            if urn in nearest:
                dependents[nearest[urn]].add(index)
        nearest[row.urn] = index
    return dependents
