"""Coordination in memory: what proves the interface, and what tests of pods run on.

A `Hall` is what all pods share; each has a `MemoryCoordination` in it. A session can be cut off
(calls fail, claims stay) and be expired, as ZooKeeper would do it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import msgspec

from .coordination import Claim, Identity, Plan, PodRecord, Seen
from .errors import CoordinationError, IdentityError
from .shard_map import ShardMap, ShardOwner


class Hall:
    """The state, and who is told of changes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.identity: Identity | None = None
        self.pods: dict[str, tuple[int, PodRecord]] = {}
        self.claims: dict[str, tuple[int, str]] = {}
        self.plans: dict[str, tuple[int, Plan]] = {}
        self.shard_map = ShardMap()
        self.listeners: list[Callable[[], None]] = []
        self.sessions = itertools.count(1)
        self.registered = itertools.count(1)

    def tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def end(self, session: int) -> None:
        """What a session holds goes with it."""
        with self.lock:
            self.pods = {pod: held for pod, held in self.pods.items() if held[0] != session}
            self.claims = {shard: held for shard, held in self.claims.items() if held[0] != session}
        self.tell()


class MemoryCoordination:
    """Coordination (`coordination.py`) of one pod in a hall."""

    def __init__(self, hall: Hall, pod: str) -> None:
        self._hall = hall
        self._pod = pod
        self._session = next(hall.sessions)
        self._changed: Callable[[], None] | None = None
        self.reachable = True

    def expire(self) -> None:
        """The session ends behind the pod's back; the next call begins another."""
        before, self._session = self._session, next(self._hall.sessions)
        self._hall.end(before)

    def start(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._hall.listeners.append(changed)

    def settle(self, identity: Identity) -> None:
        self._check("settle")
        with self._hall.lock:
            if self._hall.identity not in (None, identity):
                raise IdentityError("settle", self._pod, f"it is {self._hall.identity}")
            self._hall.identity = identity

    def register(self, record: PodRecord) -> None:
        self._check("register")
        with self._hall.lock:
            held = self._hall.pods.get(self._pod)
            ours = held is not None and held[0] == self._session
            since = held[1].since if held and ours else next(self._hall.registered)
            told = msgspec.structs.replace(record, since=since)
            self._hall.pods[self._pod] = (self._session, told)
        self._hall.tell()

    def look(self, shards: Sequence[str]) -> Seen:
        self._check("look")
        with self._hall.lock:
            plans = {
                shard: self._hall.plans[shard] for shard in shards if shard in self._hall.plans
            }
            return Seen(
                pods={pod: record for pod, (_, record) in self._hall.pods.items()},
                plans={shard: plan for shard, (_, plan) in plans.items()},
                versions={shard: plans[shard][0] if shard in plans else -1 for shard in shards},
                claims={
                    shard: Claim(pod, session == self._session)
                    for shard, (session, pod) in self._hall.claims.items()
                    if shard in shards
                },
                shard_map=self._hall.shard_map,
            )

    def read_map(self) -> ShardMap:
        self._check("read map")
        return self._hall.shard_map

    def claim(self, shard: str, over: str = "") -> bool:
        self._check("claim")
        with self._hall.lock:
            held = self._hall.claims.get(shard)
            if held is not None and held[1] not in (self._pod, over):
                return False
            self._hall.claims[shard] = (self._session, self._pod)
        self._hall.tell()
        return True

    def unclaim(self, shard: str) -> None:
        self._check("unclaim")
        with self._hall.lock:
            if self._hall.claims.get(shard, (0, ""))[1] == self._pod:
                del self._hall.claims[shard]
        self._hall.tell()

    def plan(self, shard: str, plan: Plan, version: int) -> bool:
        self._check("plan")
        with self._hall.lock:
            known = self._hall.plans.get(shard, (-1, Plan()))[0]
            if known != version:
                return False
            self._hall.plans[shard] = (version + 1, plan)
        self._hall.tell()
        return True

    def publish(self, shard: str, owner: ShardOwner) -> None:
        self._check("publish")
        with self._hall.lock:
            self._hall.shard_map = self._hall.shard_map.with_owner(shard, owner)
        self._hall.tell()

    def close(self) -> None:
        if self._changed is not None:
            self._hall.listeners.remove(self._changed)
            self._changed = None
        self._hall.end(self._session)

    def _check(self, operation: str) -> None:
        if not self.reachable:
            raise CoordinationError(operation, self._pod, "cut off")
