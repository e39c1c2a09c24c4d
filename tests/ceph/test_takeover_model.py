"""Owners that take a log over from each other in every order: a seed is one interleaving.

Each owner is a thread that runs only between two of its operations on objects in memory; a
scheduler drawn from the seed says who is next, so that any of them may sleep for any time before or
after any operation, or die there. What must hold: every acknowledged append is in the log, once, in
order, at the place that was told; and what a successor found when it took over is never added to
but by itself or those after it.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import suppress

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import COMMIT_BYTES_MAX
from objectstore_app.media.errors import FencedError
from objectstore_app.media.rados.log import RECORDS_AT, RadosLog, RadosLogReader
from objectstore_app.media.rados.memory import MemoryObjects

SHARD = ShardId(5)
SEEDS = int(os.environ.get("OBJECTSTORE_MODEL_SEEDS", "150"))
OWNERS = 3
LIVES = 4
APPENDS = 5
RECORD_BYTES = 12
SEGMENT_BYTES = COMMIT_BYTES_MAX + RECORDS_AT + 2 * RECORD_BYTES
OPERATIONS = ("create", "write_if", "replace_if", "read", "size")


class Killed(BaseException):
    """The process is gone, between two instructions."""


class Stepped:
    """Objects for one owner: each call waits until the scheduler lets it go."""

    def __init__(self, objects: MemoryObjects, owner: Owner) -> None:
        self.free_bytes = objects.free_bytes
        for name in OPERATIONS:
            setattr(self, name, self._stepped(getattr(objects, name), owner))

    @staticmethod
    def _stepped(call, owner: Owner):
        def run(*arguments: object) -> object:
            owner.pause()
            try:
                return call(*arguments)
            finally:
                owner.pause()

        return run


class Owner(threading.Thread):
    """Takes over, appends, and begins anew when it is fenced."""

    def __init__(self, number: int, objects: MemoryObjects, history: History) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._objects = Stepped(objects, self)
        self._history = history
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._doomed = False
        self.over = False
        self.failed = True

    def step(self, *, kill: bool) -> None:
        """Let it run up to its next pause."""
        self._doomed = kill
        self._go.release()
        self._paused.acquire()

    def pause(self) -> None:
        self._paused.release()
        self._go.acquire()
        if self._doomed:
            raise Killed

    def run(self) -> None:
        self._go.acquire()
        try:
            for life in range(LIVES):
                with suppress(FencedError, Killed):
                    self._live(life)
            self.failed = False
        finally:
            self.over = True
            self._paused.release()

    def _live(self, life: int) -> None:
        log = RadosLog(self._objects, SHARD, segment_bytes_max=SEGMENT_BYTES)
        found = list(log.scan(0, 0))
        seen = b"".join(bytes(piece.data) for piece in found)
        log.resume(found[-1].segment, found[-1].offset + len(found[-1].data), torn=False)
        self._history.taken_over(log.epoch, seen)
        for number in range(APPENDS):
            record = b"%d.%d.%d" % (self._number, life, number)
            record = record.ljust(RECORD_BYTES - 4, b"-") + b"%04d" % log.epoch
            self._history.begins(record)
            place = log.append([record])
            self._history.acknowledged(record, place)


class History:
    """What the outside saw, in its order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        self.seen: dict[int, bytes] = {}

    def taken_over(self, epoch: int, seen: bytes) -> None:
        assert epoch not in self.seen, "two owners of one epoch"
        self.seen[epoch] = seen

    def begins(self, record: bytes) -> None:
        self.events.append(("begins", record))

    def acknowledged(self, record: bytes, place: tuple[int, int]) -> None:
        self.events.append(("acknowledged", record))
        self.places[record] = place

    def check(self, objects: MemoryObjects) -> None:
        whole, at = b"", {}
        for piece in RadosLogReader(objects, SHARD).scan(0, 0):
            for start in range(0, len(piece.data), RECORD_BYTES):
                record = bytes(piece.data[start : start + RECORD_BYTES])
                assert record not in at, f"{record!r} is there twice"
                at[record] = (piece.segment, piece.offset + start)
            whole += bytes(piece.data)
        for record, place in self.places.items():
            assert at.get(record) == place, f"{record!r} was acknowledged at {place}"
        settled: list[bytes] = []
        for kind, record in self.events:
            if kind == "acknowledged":
                settled.append(record)
            elif record in at and settled:
                assert at[settled[-1]] < at[record], f"{record!r} is before what came before it"
        for epoch, seen in self.seen.items():
            assert whole.startswith(seen), f"what epoch {epoch} found was changed"
            added = whole[len(seen) :]
            epochs = {int(added[end - 4 : end]) for end in range(12, len(added) + 1, 12)}
            assert all(one >= epoch for one in epochs), f"a zombie wrote behind epoch {epoch}"


def run_seed(seed: int) -> History:
    rng = random.Random(seed)
    objects, history = MemoryObjects(), History()
    owners = [Owner(number, objects, history) for number in range(OWNERS)]
    kills = rng.choice((0.0, 0.0, 0.01, 0.03))
    for owner in owners:
        owner.start()
    current = owners[0]
    patience = rng.choice((0.02, 0.1, 0.5))
    while living := [owner for owner in owners if not owner.over]:
        if current.over or rng.random() < patience:
            current = rng.choice(living)
        current.step(kill=rng.random() < kills)
    for owner in owners:
        owner.join()
        assert not owner.failed, "an owner ended with an error"
    history.check(objects)
    return history


@pytest.mark.timeout(300)
def test_every_order_of_takeovers_keeps_what_was_acknowledged() -> None:
    acknowledged = takeovers = 0
    for seed in range(SEEDS):
        try:
            history = run_seed(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        acknowledged += len(history.places)
        takeovers += len(history.seen)
    assert acknowledged > 10 * SEEDS
    assert takeovers > 4 * SEEDS
