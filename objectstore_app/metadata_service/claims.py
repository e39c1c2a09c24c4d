"""What the agent of a pod is to do next: a pure function of what it sees.

Theory of operation. It is asked again whenever anything changes, and decides from the state alone,
never from what happened before; so what was lost or came twice does no harm. Per shard:

- A process that owns the shard should have a claim. A session that ended takes the claim away, not
  the shard: it is claimed anew, unless another pod was faster.
- Who has the claim, and a process that could own, orders it to.
- Who owns a shard that the plan gives to another pod lets go of it, once that one is ready: the
  process releases the log, then the claim is given up.
- A shard that nobody claims goes to the first of those that are ready (`successors`); the next ones
  wait in turn, in case the first one cannot.
- A claim without a process goes to others that are ready.
- A pod that was found dead (`peers.py`) counts no more, though its session and claims still stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..config.balance import balance, leads, successors
from ..config.coordination import Plan, Seen
from .pod_talk import Mode, Moved, Order, Own, Release, ShardState

TURN_S = 0.5


@dataclass(frozen=True, slots=True)
class TakeClaim:
    """Claim the shard; having it, order its process to own it unless it does already."""

    shard: str


@dataclass(frozen=True, slots=True)
class DropClaim:
    shard: str


@dataclass(frozen=True, slots=True)
class Send:
    shard: str
    order: Order


@dataclass(frozen=True, slots=True)
class SetPlan:
    """`version` is that of the plan which was seen."""

    shard: str
    plan: Plan
    version: int


Step = TakeClaim | DropClaim | Send | SetPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is decided from. `states` are those of the processes that are alive and heard;
    `free_s` tells for how long a shard has been seen without a claim.
    """

    pod: str
    service: str
    shards: tuple[str, ...]
    leaving: bool
    seen: Seen
    states: Mapping[str, ShardState]
    free_s: Mapping[str, float]


def next_steps(now: Situation) -> list[Step]:
    """In the order in which they are to be done."""
    steps = [step for shard in now.shards for step in _of_shard(now, shard)]
    if now.leaving or leads(now.seen, now.service, now.pod):
        for shard, plan in balance(now.seen, now.service, now.shards).items():
            if plan != now.seen.plans.get(shard):
                steps.append(SetPlan(shard, plan, now.seen.versions[shard]))
    return steps


def others_ready(now: Situation, shard: str) -> bool:
    """Whether another pod could take the shard."""
    return any(pod != now.pod for pod in successors(now.seen, now.service, shard))


def _of_shard(now: Situation, shard: str) -> Iterator[Step]:
    state, claim = now.states.get(shard), now.seen.claims.get(shard)
    mine = claim is not None and claim.pod == now.pod
    current = claim is not None and mine and claim.current
    if state is None:
        if mine and others_ready(now, shard):
            yield DropClaim(shard)
    elif state.mode is Mode.OWNING:
        if claim is None or (mine and not current):
            yield TakeClaim(shard)
        if mine and _has_heir(now, shard):
            yield Send(shard, Release())
    elif state.mode is Mode.RELEASED:
        known = now.seen.shard_map.owner(shard)
        if known is not None and known.epoch > state.epoch:
            yield Send(shard, Moved(known.epoch, known.address))
        elif mine:
            yield DropClaim(shard)
        elif claim is None and _is_our_turn(now, shard):
            yield TakeClaim(shard)
    elif current:
        if state.close or not others_ready(now, shard):
            yield Send(shard, Own())
        else:
            yield DropClaim(shard)
    elif mine or (claim is None and _is_our_turn(now, shard)):
        yield TakeClaim(shard)


def _has_heir(now: Situation, shard: str) -> bool:
    """Whether the plan gives the shard to another pod, which is ready for it."""
    planned = now.seen.plans.get(shard, Plan()).owner
    heir = now.seen.pods.get(planned)
    return heir is not None and planned != now.pod and not heir.leaving and shard in heir.ready


def _is_our_turn(now: Situation, shard: str) -> bool:
    order = successors(now.seen, now.service, shard)
    return (
        not now.leaving
        and now.pod in order
        and now.free_s.get(shard, 0.0) >= TURN_S * order.index(now.pod)
    )
