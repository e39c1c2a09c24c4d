"""What the pods of a store tell each other: values, and the interface behind which ZooKeeper lies.

Theory of operation. Each pod that can host shards *registers*, with the shards it is ready to take.
The *plan* says which pod should have a shard, and who is next. A *claim* lets a pod try to take the
shard; a registration and claims end with the pod's session, so those of a dead pod go away after
the session's time. Only the shard's log decides who may write: two pods that both believe to have a
claim do no harm. The *map* says where each shard is served.

All calls block and raise CoordinationError when the service cannot be asked. Then nobody moves:
whoever has a shard keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from .shard_map import ShardMap, ShardOwner


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is and stays: the first pod ever settles it."""

    data_shards: int
    region: str


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that hosts shards. `service` says which shards: those of one service share them out.
    `ready` are the shards that it has, or could take with little to catch up. One that is `leaving`
    takes no more. `since` tells who registered before whom; it is the coordination's to set.
    """

    pod: str
    service: str
    address: str
    ready: tuple[str, ...] = ()
    leaving: bool = False
    since: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The pod that should have a shard, and the one that follows it; empty when there is none."""

    owner: str = ""
    standby: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A pod's claim; `current` when it is of this very session, not of an earlier life of ours."""

    pod: str
    current: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """All of it at about one moment. `versions` are those of the plans, -1 where there is none."""

    pods: dict[str, PodRecord] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    shard_map: ShardMap = field(default_factory=ShardMap)

    def without(self, dead: Collection[str]) -> Seen:
        """As it will be once the sessions of these pods have expired."""
        return Seen(
            pods={name: record for name, record in self.pods.items() if name not in dead},
            plans=self.plans,
            versions=self.versions,
            claims={name: claim for name, claim in self.claims.items() if claim.pod not in dead},
            shard_map=self.shard_map,
        )


class Coordination(Protocol):
    """One pod's session."""

    def start(self, changed: Callable[[], None]) -> None:
        """Connect, and go on trying. `changed` is called, in any thread, when what was looked at
        may have changed.
        """

    def settle(self, identity: Identity) -> None:
        """Note the store's identity unless it is known. Raises IdentityError when it differs."""

    def register(self, record: PodRecord) -> None:
        """Tell the record of this pod, in the place of what was told before."""

    def look(self, shards: Sequence[str]) -> Seen:
        """Read all, for these shards, and watch it from then on."""

    def read_map(self) -> ShardMap:
        """Read the map alone, and watch it from then on."""

    def claim(self, shard: str, over: str = "") -> bool:
        """Claim a shard, also anew after an earlier life of this pod, and in the place of the pod
        `over`, which is dead; false when another has it.
        """

    def unclaim(self, shard: str) -> None:
        """Give up this pod's claim, if it has one."""

    def plan(self, shard: str, plan: Plan, version: int) -> bool:
        """Set a plan whose version was seen; false when it was changed meanwhile."""

    def publish(self, shard: str, owner: ShardOwner) -> None:
        """Put an owner into the map unless it knows a later one."""

    def close(self) -> None:
        """End the session: registration and claims end with it."""
