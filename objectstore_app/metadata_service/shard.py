"""A shard: its log, its view and the group commit that keeps them in step (docs/architecture.md).

Theory of operation. `commit` takes all mutations that wait. In the view's open transaction it
decides each one against what those before it did, applies the effects and gathers their records;
then one append makes all of them durable, COMMIT makes them visible, and only then do the callers
learn anything, refusals included, for a refusal may rest on a mutation beside it. Readers never see
what is not durable.

Failures. Room gets short: each mutation that needs some is refused, while those that give some back
may use a reserve. No room: the transaction is rolled back, the log is as before, every mutation of
the group is refused and the shard goes on. A failed flush, or a view that cannot commit what the
log already holds: the shard is broken, its process has to exit and recover. A damaged page of the
view: what needs it is refused, the shard goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec

from ..core.errors import InvariantError, ObjectStoreError
from ..core.ids import Sequence as LogSequence
from ..core.ids import ShardId
from ..core.limits import (
    COMMIT_BYTES_MAX,
    COMMIT_REQUESTS_MAX,
    LOG_FREE_BYTES_MIN,
    LOG_RESERVE_BYTES_MIN,
)
from ..media.api import Extent, LogMedium, LogSource
from ..media.errors import CorruptDataError, MediaFailedError, MediaFullError
from ..media.segments import DIRECTORY_SHARD, checksum
from ..runtime.logging import event
from .api import MutationResult
from .data import DataMachine
from .directory import DirectoryMachine
from .effects import Effect, decode_effect, encode_effect, gives_room
from .errors import RecordTooLargeError, Refused
from .machine import Machine, Mutation
from .record import HEADER_BYTES, NO_BODY_CRC, LogScan, Record, encode
from .view import (
    DATA,
    DIRECTORY,
    checkpoint,
    is_damage,
    open_view,
    read_position,
    write_position,
)

REPLAY_COMMIT_RECORDS = 5000

Outcome = MutationResult | ObjectStoreError


class Shard:
    """One shard in its writer's process. Not for threads; every call blocks."""

    def __init__(
        self,
        shard: ShardId,
        medium: LogMedium,
        view_path: Path | None,
        *,
        data_shards: int,
        now_ms: Callable[[], int],
        random_bits: Callable[[int], int] | None = None,
    ) -> None:
        """Open the view and bring it up to the end of the log. Raises CorruptDataError."""
        self.shard = shard
        self.medium = medium
        self._now_ms = now_ms
        schema = DIRECTORY if shard == DIRECTORY_SHARD else DATA
        self.view = open_view(view_path, schema)
        self._cursor = self.view.cursor()
        self._machine = make_machine(shard, self.view, data_shards, random_bits)
        self._broken = False
        self.replayed = self._recover()

    def commit(self, mutations: Sequence[Mutation]) -> list[Outcome]:
        """Decide, log and apply the mutations in order; one outcome for each.

        Raises MediaFailedError: outcomes are unknown and the process must exit.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(mutations):
            outcomes.extend(self.commit_some(mutations[len(outcomes) :]))
        return outcomes

    def commit_some(self, mutations: Sequence[Mutation]) -> list[Outcome]:
        """Commit the first of the mutations, at least one, by one append. Raises FencedError (none
        of them was decided), MediaFailedError (the outcomes are unknown): the process must not
        commit any more.
        """
        if self._broken:
            raise MediaFailedError("commit", f"shard {self.shard}", "an earlier commit failed")
        return _Group(self, mutations[:COMMIT_REQUESTS_MAX]).run()

    @property
    def epoch(self) -> int:
        """What its records are written under."""
        return self._epoch

    def close(self, *, release: bool = False) -> None:
        """Checkpoint the view and let go; the shard is not usable any more. `release` says so to
        who waits for its log.
        """
        if not self._broken:
            with contextlib.suppress(apsw.FullError):
                checkpoint(self.view)
        self._broken = True
        self.view.close()
        if release:
            self.medium.release()
        self.medium.close()

    def _recover(self) -> int:
        before, *_ = read_position(self.view)
        scan = replay(self.medium, self.view, self._machine)
        self.medium.resume(*scan.position, torn=scan.torn)
        sequence, _, _, epoch = read_position(self.view)
        self._sequence = LogSequence(sequence)
        self._epoch = self.medium.epoch_after(epoch)
        return sequence - before


class _Group:
    """One commit on its way."""

    def __init__(self, shard: Shard, mutations: Sequence[Mutation]) -> None:
        self._shard = shard
        self._mutations = mutations
        self._outcomes: list[Outcome] = []
        self._buffers: list[bytes] = []
        self._bytes = 0
        self._first = LogSequence(shard._sequence + 1)
        self._segment = 0
        self._offset = 0
        self._room = 0

    def run(self) -> list[Outcome]:
        """The outcomes of the first mutations: of all that fit one append, of one at least."""
        shard = self._shard
        execute = shard._cursor.execute
        self._room = shard.medium.room()
        try:
            self._segment, self._offset = shard.medium.position()
        except MediaFullError as error:
            return [error] * len(self._mutations)
        execute("BEGIN IMMEDIATE")
        try:
            self._gather()
            if not self._buffers:
                execute("ROLLBACK")
                return self._outcomes
            shard._machine.flush()
            write_position(
                shard._cursor, shard._sequence, self._segment, self._offset + self._bytes,
                shard._epoch,
            )  # fmt: skip
            placed = shard.medium.append(self._buffers)
        except (MediaFullError, apsw.FullError) as error:
            # Nothing was appended: neither medium nor view had room.
            self._undo()
            refusal = MediaFullError("commit", f"shard {shard.shard}", str(error))
            return [refusal] * max(1, len(self._outcomes))
        except BaseException as error:
            if isinstance(error, apsw.Error) and is_damage(error):
                # Nothing was appended, for the append comes last.
                self._undo()
                return self._leave_out_damaged(error)
            # Whatever it was, the log may hold what the view does not: recover from the log.
            shard._broken = True
            shard.view.close(True)
            raise
        if placed != (self._segment, self._offset):
            shard._broken = True
            raise InvariantError("commit", f"placed at {placed} instead of where it was announced")
        self._finish()
        return self._outcomes

    def _undo(self) -> None:
        shard = self._shard
        if shard.view.in_transaction:
            shard._cursor.execute("ROLLBACK")
        shard._machine.forget()
        shard._sequence = LogSequence(self._first - 1)

    def _leave_out_damaged(self, error: apsw.Error) -> list[Outcome]:
        """A page that a mutation needs is damaged: refuse that one; those before it need others."""
        name = f"shard {self._shard.shard}"
        event("view_damaged", shard=name, reason=str(error))
        before = len(self._outcomes)
        if 0 < before < len(self._mutations):
            return _Group(self._shard, self._mutations[:before]).run()
        hint = "a page of the view is damaged: objectstore fsck --rebuild makes it anew"
        return [CorruptDataError("commit", name, hint)] * max(1, before)

    def _gather(self) -> None:
        shard = self._shard
        decide = shard._machine.decide
        now_ms = shard._now_ms()
        for mutation in self._mutations:
            sequence = LogSequence(shard._sequence + 1)
            try:
                decision = decide(mutation, sequence, now_ms)
                effect = decision.effect
                if effect is not None and not self._add(effect, decision.body, sequence):
                    break
            except (Refused, RecordTooLargeError, MediaFullError) as error:
                self._outcomes.append(error)
                continue
            self._outcomes.append(decision.result)

    def _add(self, effect: Effect, body: bytes, sequence: LogSequence) -> bool:
        """Apply and log the effect; false, with nothing done, when the append is full."""
        if self._room < LOG_FREE_BYTES_MIN:
            self._check_room(effect)
        payload = encode_effect(effect)
        total = HEADER_BYTES + len(payload) + len(body)
        if total > COMMIT_BYTES_MAX:
            raise RecordTooLargeError("commit", type(effect).__name__, f"{total} bytes")
        if self._bytes + total > COMMIT_BYTES_MAX:
            return False
        shard = self._shard
        salt = shard.medium.salt
        if body:
            crc = checksum(body)
            offset = self._offset + self._bytes + HEADER_BYTES + len(payload)
            extent = Extent(self._segment, offset, len(body), crc)
            head = encode(sequence, self._first, shard._epoch, payload, len(body), crc, salt)
            self._buffers += (head, body)
        else:
            extent = None
            self._buffers.append(
                encode(sequence, self._first, shard._epoch, payload, 0, NO_BODY_CRC, salt)
            )
        self._bytes += total
        shard._machine.apply(effect, sequence, body, extent)
        shard._sequence = sequence
        return True

    def _check_room(self, effect: Effect) -> None:
        """The view needs room, too: one that cannot commit what its log holds ends the whole store,
        and keeps it from starting. So writes are refused while there is some left.
        """
        if self._room < LOG_RESERVE_BYTES_MIN or not gives_room(effect):
            shard = f"shard {self._shard.shard}"
            raise MediaFullError("commit", shard, f"{self._room} bytes are free")

    def _finish(self) -> None:
        try:
            self._shard._cursor.execute("COMMIT")
        except apsw.Error as error:
            self._shard._broken = True
            raise MediaFailedError(
                "commit view", f"shard {self._shard.shard}", str(error)
            ) from error


def make_machine(
    shard: ShardId,
    view: apsw.Connection,
    data_shards: int,
    random_bits: Callable[[int], int] | None = None,
) -> Machine:
    """The machine of a shard's kind over its view."""
    if shard == DIRECTORY_SHARD:
        return DirectoryMachine(view, data_shards)
    return DataMachine(view, random_bits or random.SystemRandom().getrandbits)


def replay(
    medium: LogSource,
    view: apsw.Connection,
    machine: Machine,
    progress: Callable[[Record], None] | None = None,
) -> LogScan:
    """Bring a view up to the end of the log; the returned scan says where that is.

    Raises CorruptDataError, with what came before the damage applied.
    """
    sequence, segment, offset, _ = read_position(view)
    scan = LogScan(medium, segment, offset, sequence)
    records = iter(scan)
    last: Record | None = None
    while True:
        with view:
            for record in itertools.islice(records, REPLAY_COMMIT_RECORDS):
                apply_record(machine, record)
                last = record
                if progress is not None:
                    progress(record)
            if last is None:
                return scan
            machine.flush()
            write_position(view, last.sequence, last.segment, last.end, last.epoch)
            last = None


def apply_record(machine: Machine, record: Record) -> None:
    """Apply what a record of the log holds. Raises CorruptDataError when it makes no sense."""
    extent = None
    if len(record.body):
        extent = Extent(record.segment, record.body_offset, len(record.body), record.body_crc)
    try:
        effect = decode_effect(record.payload)
        machine.apply(effect, record.sequence, record.body, extent)
    except (msgspec.MsgspecError, InvariantError, apsw.Error) as error:
        raise CorruptDataError(
            "replay log",
            f"segment {record.segment:#x} offset {record.offset}",
            f"{error}; run `objectstore fsck --data DIR`",
        ) from error
