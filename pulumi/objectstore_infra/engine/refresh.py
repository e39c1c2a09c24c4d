"""Reading the world into the state: for `refresh`, and before going on after an interrupted run."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from dataclasses import replace

from .deletion import Deleter
from .errors import EngineError, StoppedError
from .events import Control, Reporter
from .journal import Journal
from .plugins import Change
from .state import Resource, now
from .values import Properties, plain_properties, secret_texts


class Refresher:
    """Asks providers what became of the old rows' resources."""

    def __init__(
        self, journal: Journal, deleter: Deleter, report: Reporter, control: Control
    ) -> None:
        self._journal = journal
        self._deleter = deleter
        self._report = report
        self._control = control

    def refresh_all(self, parallel: int) -> None:
        """Bring every row to what its provider reports.

        Raises:
            EngineError: a provider failed; nothing is recorded then.
        """
        self._refresh([row for row in self._journal.old() if _readable(row)], parallel)
        for operation in self._journal.pending():
            if operation.type != "creating":
                self._journal.clear(operation)
        self._journal.write()

    def recover(self, parallel: int) -> None:
        """Look at what an interrupted run was creating, updating or deleting.

        A create may have adopted, and so changed, what is another row's. The operations stay
        pending until their rows are dealt with.

        Raises:
            EngineError: a provider failed.
        """
        unsure = set()
        for operation in self._journal.pending():
            row = operation.resource
            if operation.type == "creating":
                with self._control.step():
                    unsure.add((row.type, self._deleter.look_for(row).id))
            else:
                unsure.add((row.type, row.id))
        rows = [row for row in self._journal.old() if (row.type, row.id) in unsure]
        if rows := [row for row in rows if _readable(row)]:
            self._refresh(rows, parallel)
            self._journal.write()

    def _refresh(self, rows: Sequence[Resource], parallel: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(parallel, "refresh") as pool:
            reading = [pool.submit(self._read, row) for row in rows]
        errors = [error for future in reading if (error := future.exception())]
        if errors:
            raise next((e for e in errors if not isinstance(e, StoppedError)), errors[0])
        live = [future.result() for future in reading]
        for row, found in zip(rows, live, strict=True):
            if found is not None:
                self._journal.exchange(row, found)
        self._journal.drop(row for row, found in zip(rows, live, strict=True) if found is None)

    def _read(self, row: Resource) -> Resource | None:
        with self._control.step():
            try:
                live = self._deleter.provider_of(row).read(row)
            except EngineError as error:
                self._report.fail(row, str(error))
                self._control.stop(failed=True)
                raise
            if not live.id:
                self._report.begin("refresh", row, note="is gone")
                self._report.end("refresh", row)
                return None
            found = replace(row, id=live.id, outputs=live.outputs, inputs=live.inputs or row.inputs)
            self._report.hide(text for v in found.outputs.values() for text in secret_texts(v))
            changes = _changes(row.outputs, found.outputs)
            if changes:
                found.modified = now()
            self._report.begin("refresh" if changes else "same", found, row, changes)
            self._report.end("refresh" if changes else "same", found)
            return found


def _readable(row: Resource) -> bool:
    return row.has_world and not row.delete


def _changes(old: Properties, new: Properties) -> list[Change]:
    before, after = plain_properties(old), plain_properties(new)
    return [
        Change(
            key, "update" if key in before and key in after else "add" if key in after else "delete"
        )
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
