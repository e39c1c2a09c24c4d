"""Atlas' passes: which are due, and running them one after the other.

Theory of operation. Atlas is a process that lives for its passes only, so that it takes no memory
between them. It holds the store's `atlas` lock, so two never work on one store. The passes know
nothing of each other; each can be cut off at any point and begins anew, but for the scrub, which
goes on where it was.

When room gets short (`core.room`), the passes that give some back do not keep the pace and come
sooner. The grace stays: it protects who still reads.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from ..config.atlas import AtlasSettings
from ..core.errors import ObjectStoreError
from ..media.errors import CorruptDataError, UnsupportedError
from ..media.opened import Media
from ..media.segments import DIRECTORY_SHARD
from ..media.store import Store
from ..metadata_service.directory import all_store_keys
from ..metadata_service.survey import ViewError
from ..metadata_service.view import is_damage
from ..runtime.logging import event
from .compaction import compact
from .cooling import cool
from .garbage import collect
from .leftovers import clean
from .orphans import remove_orphans
from .pace import Pace, StoppedError
from .scrub import Scrub
from .state import PassRecord, State, load_state, save_state
from .work import LocalWriters, Work, Writers

HURRIED_EVERY_S = 300.0
_GIVE_ROOM = ("gc", "compact", "orphans")
PASSES = ("gc", "rewrap", "compact", "orphans", "cool", "uploads", "scrub")


def due(
    state: State, settings: AtlasSettings, now_ms: int, *, hurried: bool = False
) -> tuple[str, ...]:
    """The passes whose time has come, in the order to run them."""

    def since_s(ended_ms: int) -> float:
        return (now_ms - ended_ms) / 1000

    every_s = {
        "gc": 0.0,
        "rewrap": 0.0,
        "compact": settings.compact_every_s,
        "orphans": settings.orphans_every_s,
        "cool": settings.cool_every_s,
        "uploads": settings.uploads_every_s,
    }
    if hurried:
        every_s.update({name: min(every_s[name], HURRIED_EVERY_S) for name in _GIVE_ROOM})
    found = [
        name
        for name, pause_s in every_s.items()
        if (last := state.passes.get(name)) is None
        or last.stopped_by
        or since_s(last.ended_ms) >= pause_s
    ]
    if state.scrub.stage or since_s(state.scrub_ended_ms) >= settings.scrub_every_s:
        found.append("scrub")
    return tuple(found)


async def run_passes(
    store: Store,
    media: Media,
    settings: AtlasSettings,
    *,
    names: Sequence[str] | None,
    pace: Pace,
    now_ms: Callable[[], int],
    writers: Writers | None = None,
) -> State:
    """Run the passes named, whole, or with None those that are due; return the state they leave.
    `now_ms` tells no later time than the views are of. Without `writers` those beside this process
    are asked.

    Call it inside a running loop, while the store's writers live. Raises StoreInUseError when
    another Atlas works on the store, MediaFailedError when its views cannot be opened.
    """
    with store.lock("atlas"):
        state = load_state(store)
        asked = names is not None
        work = Work(store, media, settings, state, pace, now_ms, writers or LocalWriters(store))
        try:
            hurried = work.segments.is_short()
            if names is None:
                names = due(state, settings, now_ms(), hurried=hurried)
            for name in names:
                pace.hurried = name in _GIVE_ROOM and work.segments.is_short()
                going_on = await _run(work, name, asked=asked)
                save_state(store, state)
                if not going_on:
                    break
        finally:
            await work.close()
    return state


async def _run(work: Work, name: str, *, asked: bool) -> bool:
    """Run one pass and record how it went; false when Atlas is to end."""
    begun = time.monotonic()
    stopped_by = limited_by = ""
    try:
        await _pass(work, name, asked=asked)
    except StoppedError as error:
        stopped_by = str(error)
        return False
    except UnsupportedError as error:
        limited_by = str(error)
    except ObjectStoreError as error:
        stopped_by = str(error)
        if isinstance(error, CorruptDataError):
            work.report_damage(error.subject, str(error))
    except ViewError as error:
        stopped_by = str(error)
        if is_damage(error):
            work.report_damage("view", f"{error}; run `objectstore fsck --data DIR`")
    finally:
        took_s = time.monotonic() - begun
        before = work.state.passes.get(name)
        record = PassRecord(work.now_ms(), round(took_s, 3), stopped_by, limited_by)
        work.state.passes[name] = record
        if limited_by and (before is None or before.limited_by != limited_by):
            event("atlas_pass_limited", atlas_pass=name, reason=limited_by)
        if stopped_by:
            event("atlas_pass_stopped", atlas_pass=name, reason=stopped_by)
    return True


def _pass(work: Work, name: str, *, asked: bool) -> Awaitable[None]:
    match name:
        case "gc":
            return collect(work)
        case "rewrap":
            return _rewrap(work)
        case "compact":
            return compact(work, at_once=asked)
        case "orphans":
            return remove_orphans(work)
        case "cool":
            return cool(work)
        case "uploads":
            return clean(work)
        case _:
            return Scrub(work, slice_s=0 if asked else work.settings.scrub_slice_s).run()


async def _rewrap(work: Work) -> None:
    """Where no key was ever rotated the process does without all that deals in keys."""
    if any(len(key.versions) > 1 for key in all_store_keys(work.views[DIRECTORY_SHARD])):
        from .rewrap import rewrap

        await rewrap(work)
