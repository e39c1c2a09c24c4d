"""Agents and shards' processes of three pods, every act in an order that a seed decides: decisions
from what was seen long ago, processes that die, sessions that end, pods without coordination, pods
that leave. Logs and coordination are those in memory, decisions and take-overs the real ones.

Always: what was acknowledged is in the log, once, in order; nobody appends under an epoch that a
later owner ended. In the end, when nothing fails any more: each shard has one owner, which has the
claim and stands in the map; the shards are shared out evenly; and nothing moves any more.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress

import msgspec
import pytest

from objectstore_app.config.coordination import PodRecord
from objectstore_app.config.errors import CoordinationError
from objectstore_app.config.memory import Hall, MemoryCoordination
from objectstore_app.config.shard_map import ShardOwner
from objectstore_app.core.ids import ShardId
from objectstore_app.media.errors import FencedError
from objectstore_app.media.rados.log import RadosLog, RadosLogReader, read_head
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.segments import shard_folder
from objectstore_app.metadata_service.claims import (
    DropClaim,
    Send,
    SetPlan,
    Situation,
    Step,
    TakeClaim,
    next_steps,
)
from objectstore_app.metadata_service.pod_talk import Mode, Moved, Order, Own, Release, ShardState

SEEDS = range(int(os.environ.get("OBJECTSTORE_MODEL_SEEDS", "150")))
SHARDS = tuple(shard_folder(ShardId(number)) for number in range(3))
PODS = ("a", "b", "c")
ACTS = 1500
ROUNDS_MAX = 80
RECORD_BYTES = 16
NUMBERS = dict(zip(SHARDS, map(ShardId, range(3)), strict=True))


class World:
    """What all share, and what the outside saw."""

    def __init__(self) -> None:
        self.objects, self.hall = MemoryObjects(), Hall()
        self.acknowledged: dict[str, list[bytes]] = {shard: [] for shard in SHARDS}
        self.sent = 0
        self.now = 0.0


class Process:
    """A shard's process, as its agent sees it: an order is taken later than it was sent."""

    def __init__(self, world: World, shard: str) -> None:
        self._world = world
        self._shard = shard
        self.orders: list[Order] = []
        self.alive = True
        self.state = ShardState(shard=shard, mode=Mode.FOLLOWING, close=True)
        self._log: RadosLog | None = None

    def die(self) -> None:
        self.alive, self.orders, self._log = False, [], None

    def begin(self) -> None:
        self.alive = True
        self.state = ShardState(shard=self._shard, mode=Mode.FOLLOWING, close=True)

    def order(self, order: Order) -> None:
        """The last wish counts; what others have taken it learns in any case."""
        kept = [each for each in self.orders if isinstance(each, Moved) and each != order]
        self.orders = [*kept, order] if self.alive else []

    def obey(self) -> None:
        order, mode = self.orders.pop(0), self.state.mode
        if isinstance(order, Own) and mode is not Mode.OWNING:
            self._take()
        elif isinstance(order, Release) and mode is Mode.OWNING and self._log is not None:
            self._log.release()
            self._log = None
            self._become(Mode.RELEASED)
        elif isinstance(order, Moved) and mode is Mode.RELEASED and order.epoch > self.state.epoch:
            self._become(Mode.FOLLOWING)

    def append(self) -> None:
        """One acknowledged write, or the end of this owner."""
        if self._log is None:
            return
        self._world.sent += 1
        record = b"%07d-%08d" % (self._world.sent, self.state.epoch)
        try:
            self._log.append([record])
        except FencedError:
            self._log = None
            self._become(Mode.FOLLOWING)
            return
        self._world.acknowledged[self._shard].append(record)

    def _take(self) -> None:
        number = NUMBERS[self._shard]
        try:
            log = RadosLog(self._world.objects, number)
            *_, last = log.scan(0, 0)
            log.resume(last.segment, last.offset + len(last.data), torn=False)
        except FencedError:
            return
        self._log = log
        self._become(Mode.OWNING, log.epoch)

    def _become(self, mode: Mode, epoch: int | None = None) -> None:
        self.state = msgspec.structs.replace(
            self.state, mode=mode, epoch=self.state.epoch if epoch is None else epoch
        )


class Pod:
    """An agent, which acts on what it saw some time ago, and its processes."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.session = MemoryCoordination(world.hall, name)
        self.processes = {shard: Process(world, shard) for shard in SHARDS}
        self.leaving = False
        self._steps: list[Step] = []
        self._free_since: dict[str, float] = {}

    def act(self) -> None:
        """The next step of the round under way, or the look that begins another."""
        with suppress(CoordinationError):
            if self._steps:
                self._do(self._steps.pop(0))
            else:
                self._look()

    def _states(self) -> dict[str, ShardState]:
        return {name: each.state for name, each in self.processes.items() if each.alive}

    def _look(self) -> None:
        states, world = self._states(), self._world
        for shard, state in states.items():
            if state.mode is Mode.OWNING:
                owner = ShardOwner(address=self.name, epoch=state.epoch, pod=self.name)
                self.session.publish(shard, owner)
        ready = tuple(sorted(states))
        self.session.register(
            PodRecord(
                pod=self.name, service="metadata", address=self.name, ready=ready,
                leaving=self.leaving,
            )
        )  # fmt: skip
        seen = self.session.look(SHARDS)
        free = [shard for shard in SHARDS if shard not in seen.claims]
        self._free_since = {shard: self._free_since.get(shard, world.now) for shard in free}
        self._steps = next_steps(
            Situation(
                pod=self.name, service="metadata", shards=SHARDS, leaving=self.leaving, seen=seen,
                states=states,
                free_s={name: world.now - since for name, since in self._free_since.items()},
            )
        )  # fmt: skip

    def _do(self, step: Step) -> None:
        match step:
            case TakeClaim(shard):
                state = self._states().get(shard)
                if self.session.claim(shard) and state and state.mode is not Mode.OWNING:
                    self.processes[shard].order(Own())
            case DropClaim(shard):
                self.session.unclaim(shard)
            case SetPlan(shard, plan, version):
                self.session.plan(shard, plan, version)
            case Send(shard, order):
                self.processes[shard].order(order)


def disturb(rng: random.Random, pods: list[Pod]) -> None:
    pod = rng.choice(pods)
    process = pod.processes[rng.choice(SHARDS)]
    match rng.randrange(5):
        case 0:
            process.die() if process.alive else process.begin()
        case 1:
            pod.session.expire()
        case 2:
            pod.session.reachable = not pod.session.reachable
        case 3:
            pod.leaving = not pod.leaving
        case 4:
            pod.session.expire()
            for each in pod.processes.values():
                each.die()


def act(rng: random.Random, world: World, pods: list[Pod]) -> None:
    """Some agent or process does what it is to do next."""
    world.now += rng.random() / 20
    pod = rng.choice(pods)
    process = pod.processes[rng.choice(SHARDS)]
    what = rng.random()
    if what < 0.5:
        pod.act()
    elif what < 0.75:
        if process.alive and process.orders:
            process.obey()
    else:
        process.append()


def check_logs(world: World) -> None:
    for shard, acknowledged in world.acknowledged.items():
        pieces = RadosLogReader(world.objects, NUMBERS[shard]).scan(0, 0)
        whole = b"".join(bytes(piece.data) for piece in pieces)
        records = [whole[at : at + RECORD_BYTES] for at in range(0, len(whole), RECORD_BYTES)]
        assert records == acknowledged  # in this model an append is acknowledged at once
        epochs = [int(record[-8:]) for record in records]
        assert epochs == sorted(epochs), "a zombie appended"


def is_settled(world: World, pods: list[Pod]) -> bool:
    owners = []
    for shard in SHARDS:
        head = read_head(world.objects, NUMBERS[shard])
        holders = [
            pod
            for pod in pods
            if pod.processes[shard].state.mode is Mode.OWNING
            and head is not None
            and pod.processes[shard].state.epoch == head[0].epoch
        ]
        owner = world.hall.shard_map.owner(shard)
        claim = world.hall.claims.get(shard, (0, ""))[1]
        plan = world.hall.plans[shard][1].owner if shard in world.hall.plans else ""
        if len(holders) != 1 or owner is None:
            return False
        if not owner.pod == claim == plan == holders[0].name:
            return False
        if any(pod.processes[shard].orders for pod in pods):
            return False
        owners.append(owner.pod)
    return len(set(owners)) == len(PODS)


def run_seed(seed: int) -> int:
    rng, world = random.Random(seed), World()
    pods = [Pod(world, name) for name in PODS]
    trouble = rng.choice((0.0, 0.002, 0.01, 0.03))
    for _ in range(ACTS):
        if rng.random() < trouble:
            disturb(rng, pods)
        act(rng, world, pods)
    for pod in pods:
        pod.session.reachable, pod.leaving = True, False
        for process in pod.processes.values():
            if not process.alive:
                process.begin()
    rounds = 0
    while not is_settled(world, pods):
        rounds += 1
        assert rounds < ROUNDS_MAX, "it does not settle"
        for _ in range(100):
            act(rng, world, pods)
    check_logs(world)
    before = world.hall.shard_map
    for _ in range(ACTS):
        act(rng, world, pods)
    assert world.hall.shard_map == before, "it moves without need"
    assert is_settled(world, pods)
    check_logs(world)
    return sum(map(len, world.acknowledged.values()))


@pytest.mark.timeout(300)
def test_every_order_of_acts_keeps_what_was_acknowledged_and_settles() -> None:
    acknowledged = 0
    for seed in SEEDS:
        try:
            acknowledged += run_seed(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert acknowledged > 100 * len(SEEDS)
