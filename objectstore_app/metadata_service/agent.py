"""A pod's agent: the one process of it that speaks with the coordination service.

Theory of operation. A round publishes the shards that this pod has taken, looks at everything,
decides (`claims.py`) and acts; rounds begin when something changed, here or there, and now and then
anyway. Calls to the coordination service block,
so a round's run in a thread, one round after the other. While the service cannot be asked nothing
is decided: whoever has a shard keeps it, the copy of the map stays. The shards' processes are heard
all the while.

The pod's own gateway is asked, too, for without it nobody reaches the shards: while it is silent
the processes count for nothing, so the pod is ready for no shard, and claims go to pods that are.

Leaving: the pod is registered as one that leaves; the shards that it has are planned elsewhere and
handed over one by one; then the agent ends, and the session with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from ..config.coordination import Coordination, Identity, PodRecord, Seen
from ..config.errors import CoordinationError, ShardMapError
from ..config.shard_map import ShardOwner
from ..core.errors import invariant
from ..runtime.logging import event
from . import sockets
from .claims import DropClaim, Send, SetPlan, Situation, Step, TakeClaim, next_steps
from .errors import UnavailableError
from .map_copy import MapCopy
from .peers import Peers
from .pod_talk import (
    LINE_BYTES_MAX,
    SOCKET_NAME,
    UNHEARD_S_MAX,
    Mode,
    Order,
    Own,
    ShardState,
    decode_state,
    line_of,
)

ROUND_S = 5.0
LISTEN_S = 0.5
CONNECT_S_MAX = 2.0
AGAIN_S = 1.0
LEAVE_S_MAX = 20.0
UNREACHED_S_MAX = 0.2
UNHEARD_GATEWAY_S_MAX = 3.0
HANGS_S_MIN = 15.0

invariant(UNHEARD_GATEWAY_S_MAX < HANGS_S_MIN, "shards go to others before the pod begins anew")
invariant(UNHEARD_S_MAX < HANGS_S_MIN, "shards go to others before the pod begins anew")


@dataclass(slots=True)
class _Process:
    """A shard's process as it was heard last."""

    transport: asyncio.Transport
    state: ShardState
    ordered: Order | None = None
    ordered_at: float = 0.0


class Agent:
    """Belongs to one loop; `serve` is its life."""

    def __init__(
        self,
        coordination: Coordination,
        *,
        pod: str,
        service: str,
        address: str,
        shards: tuple[str, ...],
        identity: Identity,
        run: Path,
        gateway_silent_s: Callable[[], float],
    ) -> None:
        """`address` is where others reach this pod's gateway, `gateway_silent_s` for how long that
        has answered nothing; `shards` are those of the service.
        """
        self._coordination = coordination
        self._pod = pod
        self._service = service
        self._address = address
        self._shards = shards
        self._identity = identity
        self._run = run
        self._gateway_silent_s = gateway_silent_s
        self._loop = asyncio.get_running_loop()
        self._heard = dict.fromkeys(shards, self._loop.time())
        self._wake = asyncio.Event()
        self._processes: dict[str, _Process] = {}
        self._free_since: dict[str, float] = {}
        self._peers = Peers(self._wake.set)
        self._copy = MapCopy(run)
        self._leaving = False
        self._leave_by = 0.0
        self._alone = False
        self._settled = False
        self._reached = True

    async def serve(self, *, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Until `stop` and the hand-over of what this pod has. Raises IdentityError."""
        sock = sockets.listen(self._run, SOCKET_NAME)
        server = await self._loop.create_unix_server(lambda: _Listener(self), sock=sock)
        self._coordination.start(self._changed)
        ready()
        stopping = self._loop.create_task(stop.wait())
        stopping.add_done_callback(lambda done: None if done.cancelled() else self._leave())
        try:
            await self._is_woken(CONNECT_S_MAX)
            while not (self._leaving and self._has_left()):
                self._wake.clear()
                await self._round()
                await self._rest()
        finally:
            stopping.cancel()
            server.close()
            await self._peers.close()
            await self._loop.run_in_executor(None, self._coordination.close)

    async def check(self) -> None:
        """Return when the pod is ready: each shard is its own, or it could take it, and the map is
        known. Raises UnavailableError.
        """
        if self._gateway_silent_s() > UNHEARD_GATEWAY_S_MAX:
            raise UnavailableError("host", self._pod, "its gateway does not answer")
        states = self._states()
        for shard in self._shards:
            state = states.get(shard)
            if state is None:
                raise UnavailableError("host", shard, "its process does not answer")
            if not (state.close or state.mode is Mode.OWNING):
                raise UnavailableError("host", shard, "its view is still catching up")
            if self._copy.map is None or self._copy.map.owner(shard) is None:
                raise UnavailableError("host", shard, "nobody is known to have it")

    async def check_alive(self) -> None:
        """Return unless a process of the pod hangs: the pod should begin anew then. One that waits
        for the medium does not hang. Raises UnavailableError.
        """
        if self._gateway_silent_s() > HANGS_S_MIN:
            raise UnavailableError("live", self._pod, "its gateway hangs")
        for shard in self._shards:
            if self._loop.time() - self._heard[shard] > HANGS_S_MIN:
                raise UnavailableError("live", shard, "its process hangs")

    # --- what the processes say ---

    def heard(self, transport: asyncio.Transport, line: bytes) -> None:
        """Raises msgspec.MsgspecError."""
        state = decode_state(line)
        known = self._processes.get(state.shard)
        if known is None or known.transport is not transport:
            known = self._processes[state.shard] = _Process(transport, state)
            self._wake.set()
        if state != known.state:
            if state.mode is not known.state.mode:
                known.ordered = None
            known.state = state
            self._wake.set()
        self._heard[state.shard] = self._loop.time()

    def lost(self, transport: asyncio.Transport) -> None:
        for shard, process in list(self._processes.items()):
            if process.transport is transport:
                del self._processes[shard]
                self._wake.set()

    def _states(self) -> dict[str, ShardState]:
        """Of the processes that live and do something; none while nobody could reach them."""
        if self._gateway_silent_s() > UNHEARD_GATEWAY_S_MAX:
            return {}
        oldest = self._loop.time() - UNHEARD_S_MAX
        return {
            shard: process.state
            for shard, process in self._processes.items()
            if self._heard[shard] >= oldest and not process.state.blocked
        }

    def _send(self, shard: str, order: Order) -> None:
        process, now = self._processes.get(shard), self._loop.time()
        if process is None or (process.ordered == order and now < process.ordered_at + AGAIN_S):
            return
        process.ordered, process.ordered_at = order, now
        process.transport.write(line_of(order))

    # --- rounds ---

    def _changed(self) -> None:
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _rest(self) -> None:
        """Until something changes; that a process says nothing any more does so, too."""
        heard, end = self._states().keys(), self._loop.time() + ROUND_S
        while self._loop.time() < end and self._states().keys() == heard:
            if await self._is_woken(LISTEN_S):
                return

    async def _is_woken(self, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        return self._wake.is_set()

    async def _round(self) -> None:
        states = self._states()
        try:
            record, news = self._record(states), self._news(states)
            seen = await self._loop.run_in_executor(None, self._look, record, news)
            self._copy.take(seen.shard_map)
            others = {
                name: other
                for name, other in seen.pods.items()
                if other.service == self._service and name != self._pod
            }
            dead = self._peers.watch(others)
            self._alone = not any(
                name not in dead and not other.leaving for name, other in others.items()
            )
            overtaken = {
                shard: claim.pod for shard, claim in seen.claims.items() if claim.pod in dead
            }
            steps = next_steps(self._situation(seen.without(dead), states))
            for step in steps:
                if isinstance(step, Send):
                    self._send(step.shard, step.order)
            for shard in await self._loop.run_in_executor(None, self._act, steps, overtaken):
                if shard in states and states[shard].mode is not Mode.OWNING:
                    self._send(shard, Own())
        except (CoordinationError, ShardMapError, OSError) as error:
            # A map that is not understood or cannot be kept ends nobody: the last one stands.
            if isinstance(error, CoordinationError) and not error.retryable:
                raise
            if self._reached:
                event("coordination_unreachable", reason=str(error))
            self._reached = False
            await asyncio.sleep(UNREACHED_S_MAX)
            self._wake.set()
            return
        if not self._reached:
            event("coordination_reached")
        self._reached = True

    def _record(self, states: dict[str, ShardState]) -> PodRecord:
        ready = (
            shard
            for shard, state in sorted(states.items())
            if state.close or state.mode is Mode.OWNING
        )
        return PodRecord(
            pod=self._pod,
            service=self._service,
            address=self._address,
            ready=tuple(ready),
            leaving=self._leaving,
        )

    def _news(self, states: dict[str, ShardState]) -> dict[str, ShardOwner]:
        """The shards of ours that the map, as we know it, gives to others."""
        news = {}
        for shard, state in states.items():
            known = self._copy.map.owner(shard) if self._copy.map else None
            if state.mode is Mode.OWNING and (known is None or known.epoch < state.epoch):
                news[shard] = ShardOwner(address=self._address, epoch=state.epoch, pod=self._pod)
        return news

    def _situation(self, seen: Seen, states: dict[str, ShardState]) -> Situation:
        now = self._loop.time()
        free = {
            shard: self._free_since.get(shard, now)
            for shard in self._shards
            if shard not in seen.claims
        }
        self._free_since = free
        if free:  # somebody's turn comes without anything that changes
            self._loop.call_later(UNREACHED_S_MAX, self._wake.set)
        return Situation(
            pod=self._pod,
            service=self._service,
            shards=self._shards,
            leaving=self._leaving,
            seen=seen,
            states=states,
            free_s={shard: now - since for shard, since in free.items()},
        )

    def _look(self, record: PodRecord, news: dict[str, ShardOwner]) -> Seen:
        """Runs in a thread: tell what others wait for, then look."""
        if not self._settled:
            self._coordination.settle(self._identity)
            self._settled = True
        for shard, owner in news.items():
            self._coordination.publish(shard, owner)
        seen = self._coordination.look(self._shards)
        known = seen.pods.get(self._pod)
        if known is None or msgspec.structs.replace(known, since=0) != record:
            self._coordination.register(record)
            seen = self._coordination.look(self._shards)
        return seen

    def _act(self, steps: list[Step], overtaken: dict[str, str]) -> list[str]:
        """Runs in a thread: do what concerns others; the shards that were claimed. `overtaken` are
        the claims of dead pods.
        """
        claimed = []
        for step in steps:
            match step:
                case TakeClaim(shard):
                    if self._coordination.claim(shard, overtaken.get(shard, "")):
                        event("shard_claimed", shard=shard)
                        claimed.append(shard)
                case DropClaim(shard):
                    self._coordination.unclaim(shard)
                    event("shard_unclaimed", shard=shard)
                case SetPlan(shard, plan, version):
                    if self._coordination.plan(shard, plan, version):
                        event("shard_planned", shard=shard, owner=plan.owner, standby=plan.standby)
                case Send():
                    pass
        return claimed

    # --- leaving ---

    def _leave(self) -> None:
        event("pod_leaves", pod=self._pod)
        self._leaving = True
        self._leave_by = self._loop.time() + LEAVE_S_MAX
        self._wake.set()

    def _has_left(self) -> bool:
        if self._alone:
            return True
        if self._loop.time() >= self._leave_by:
            event("pod_leaves_with_shards", pod=self._pod)
            return True
        return all(state.mode is Mode.FOLLOWING for state in self._states().values())


class _Listener(asyncio.Protocol):
    """A shard process's connection."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        *lines, self._held = (self._held + data).split(b"\n")
        try:
            for line in lines:
                self._agent.heard(self._transport, line)
        except msgspec.MsgspecError as error:
            event("agent_peer_dropped", reason=str(error))
            self._transport.abort()
        if len(self._held) > LINE_BYTES_MAX:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._agent.lost(self._transport)
