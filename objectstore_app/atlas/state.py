"""What Atlas remembers between its passes: `DIR/atlas/state.json` (docs/formats/store.md).

Nothing in it is needed to keep data safe; a state that is missing or unreadable begins anew.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..core.limits import MIB
from ..media.store import Store, write_durably

STATE_FORMAT = 1
DAMAGE_MAX = 1000
STATE_BYTES_MAX = 4 * MIB


class Damage(msgspec.Struct, frozen=True):
    """Stored bytes that are not what was written. `where` names the row or file, `what` segment and
    offset.
    """

    found_ms: int
    where: str
    what: str


class PassRecord(msgspec.Struct, frozen=True):
    """The last run of a pass: when it ended, how long it took, and, if anything, what stopped it
    early and what the file system lacks for it to do all of its work.
    """

    ended_ms: int
    took_s: float
    stopped_by: str = ""
    limited_by: str = ""


class ScrubPoint(msgspec.Struct):
    """Where the scrub goes on: the shard, one of `scrub.STAGES`, the last place done in it, and of
    the place it was in the midst of (a large object, say) the number of extents done.
    """

    begun_ms: int = 0
    shard: int = 0
    stage: str = ""
    after: tuple[int, str, int] | None = None
    inside: tuple[int, str, int] | None = None
    extents_done: int = 0


class State(msgspec.Struct):
    """`counters` only grow: bytes_freed, bytes_moved, bytes_scrubbed, segments_removed, …"""

    format: int = STATE_FORMAT
    passes: dict[str, PassRecord] = {}
    counters: dict[str, int] = {}
    scrub: ScrubPoint = msgspec.field(default_factory=ScrubPoint)
    scrubs_completed: int = 0
    scrub_ended_ms: int = 0
    damage: list[Damage] = []
    damage_left_out: int = 0
    closed_buckets: dict[int, int] = {}
    """Deleted buckets whose row is still there, and when that was first seen."""

    def count(self, name: str, change: int) -> None:
        self.counters[name] = self.counters.get(name, 0) + change

    def add_damage(self, damage: Damage) -> None:
        """Once for each place."""
        if any((one.where, one.what) == (damage.where, damage.what) for one in self.damage):
            return
        if len(self.damage) < DAMAGE_MAX:
            self.damage.append(damage)
        else:
            self.damage_left_out += 1


def load_state(store: Store) -> State:
    try:
        raw = _path(store).read_bytes()
    except FileNotFoundError:
        return State()
    try:
        state = msgspec.json.decode(raw, type=State)
    except msgspec.MsgspecError:
        return State()
    return state if state.format <= STATE_FORMAT else State()


def save_state(store: Store, state: State) -> None:
    path = _path(store)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    write_durably(path, msgspec.json.encode(state))


def _path(store: Store) -> Path:
    return store.path / "atlas" / "state.json"
