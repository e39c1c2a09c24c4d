"""What an agent does next, a rule at a time; `test_pods_model` has them together."""

from __future__ import annotations

import pytest

from objectstore_app.config.coordination import Claim, Plan, PodRecord, Seen
from objectstore_app.config.shard_map import ShardMap, ShardOwner
from objectstore_app.metadata_service.claims import (
    TURN_S,
    DropClaim,
    Send,
    Situation,
    Step,
    TakeClaim,
    next_steps,
)
from objectstore_app.metadata_service.pod_talk import Mode, Moved, Own, Release, ShardState

SHARD = "shard-000"
OURS, OLD, THEIRS = (
    Claim("us", current=True),
    Claim("us", current=False),
    Claim("them", current=False),
)
FOLLOWING = ShardState(shard=SHARD, mode=Mode.FOLLOWING, close=True)
BEHIND = ShardState(shard=SHARD, mode=Mode.FOLLOWING)
OWNING = ShardState(shard=SHARD, mode=Mode.OWNING, epoch=7, close=True)
RELEASED = ShardState(shard=SHARD, mode=Mode.RELEASED, epoch=7, close=True)


def steps(
    state: ShardState | None,
    claim: Claim | None,
    *,
    planned: str = "us",
    free_s: float = 0.0,
    they: str = "ready",
    leaving: bool = False,
    epoch: int = 7,
) -> list[Step]:
    """Of the pod `us`, which has not registered first, so that it plans nothing. `they`: whether
    the other pod is ready, unready, leaving or gone.
    """
    pods = {"us": PodRecord(pod="us", service="metadata", address="us", since=2, leaving=leaving,
                            ready=(SHARD,) if state and state.close else ())}  # fmt: skip
    if they != "gone":
        ready = (SHARD,) if they == "ready" else ()
        pods["them"] = PodRecord(pod="them", service="metadata", address="them", since=1,
                                 ready=ready, leaving=they == "leaving")  # fmt: skip
    seen = Seen(
        pods=pods,
        plans={SHARD: Plan(owner=planned)},
        versions={SHARD: 0},
        claims={SHARD: claim} if claim else {},
        shard_map=ShardMap(shards={SHARD: ShardOwner(address="them:1", epoch=epoch, pod="them")}),
    )
    found = next_steps(
        Situation(
            pod="us", service="metadata", shards=(SHARD,), leaving=leaving, seen=seen,
            states={SHARD: state} if state else {}, free_s={SHARD: free_s},
        )
    )  # fmt: skip
    return [step for step in found if isinstance(step, (TakeClaim, DropClaim, Send))]


TAKE, DROP = TakeClaim(SHARD), DropClaim(SHARD)
OWN, RELEASE, MOVED = Send(SHARD, Own()), Send(SHARD, Release()), Send(SHARD, Moved(8, "them:1"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # a standby
        (steps(FOLLOWING, THEIRS), []),
        (steps(FOLLOWING, None), [TAKE]),
        (steps(FOLLOWING, None, leaving=True), []),
        (steps(BEHIND, None), []),
        (steps(FOLLOWING, None, planned="them"), []),
        (steps(FOLLOWING, None, planned="them", free_s=TURN_S), [TAKE]),
        (steps(FOLLOWING, None, planned="them", they="unready"), [TAKE]),
        (steps(FOLLOWING, OURS), [OWN]),
        (steps(FOLLOWING, OLD), [TAKE]),
        (steps(BEHIND, OURS), [DROP]),
        (steps(BEHIND, OURS, they="unready"), [OWN]),
        # an owner
        (steps(OWNING, OURS), []),
        (steps(OWNING, None), [TAKE]),
        (steps(OWNING, OLD), [TAKE]),
        (steps(OWNING, THEIRS), []),
        (steps(OWNING, OURS, planned="them"), [RELEASE]),
        (steps(OWNING, OURS, planned="them", they="unready"), []),
        (steps(OWNING, OURS, planned="them", they="leaving"), []),
        (steps(OWNING, OURS, planned="them", they="gone"), []),
        # one that has let go
        (steps(RELEASED, OURS, planned="them"), [DROP]),
        (steps(RELEASED, None, planned="them"), []),
        (steps(RELEASED, None, planned="them", free_s=TURN_S), [TAKE]),
        (steps(RELEASED, THEIRS, planned="them"), []),
        (steps(RELEASED, THEIRS, planned="them", epoch=8), [MOVED]),
        # no process
        (steps(None, OURS), [DROP]),
        (steps(None, OURS, they="unready"), []),
        (steps(None, None), []),
    ],
)
def test_next_step(found: list[Step], expected: list[Step]) -> None:
    assert found == expected
