"""A shard's process in a pod: a warm standby, or the owner.

Theory of operation. One coroutine moves between three modes, as the pod's agent orders and as the
log allows; the agent's orders are wishes, the log's epoch decides.

    following   the view follows the log. Every mutation is answered with NotOwnerError.
    owning      entered by fencing the log and replaying the rest; mutations are committed. Left
                when an append, or a look at the head, says that another pod has taken the log: what
                was not decided is answered with NotOwnerError. A failure that leaves outcomes in
                doubt ends the process, unanswered.
    released    a hand-over: what waited is committed, readers are told off, then the log's head
                says that it may be taken. What arrives from then on waits until the agent says who
                took the shard, and is then answered with NotOwnerError: its sender asks there. If
                nobody takes it, the agent has us take it again, and what waits is committed here.

The loop serves nothing but this shard's socket, so that replaying and committing may block it. Only
what comes before is done in a thread: the view is brought back from a base that is kept, which may
take minutes. The process lives meanwhile, and is not ready.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from ..core.clock import now_ms
from ..core.ids import ShardId
from ..media.errors import FencedError, MediaFailedError
from ..media.opened import Media
from ..media.segments import DIRECTORY_SHARD
from ..media.store import Store
from ..runtime.logging import event
from . import sockets
from .errors import NotOwnerError
from .follower import Follower
from .holding import Holding, holding_path
from .hosted import Connection, HostedShard, Queued
from .machine import Mutation
from .pod_talk import AgentLink, Mode, Moved, Order, Own, Release, ShardState
from .shard import Shard
from .writer import restore_shard

FOLLOW_S = 0.5
CLOSE_S = 2.0
TICK_S = 1.0
HAND_OVER_S_MAX = 5.0
LINGER_S = 1.0


class PodShard:
    """Belongs to one loop; `serve` is its life."""

    def __init__(self, store: Store, shard: ShardId, media: Media) -> None:
        self._store = store
        self._shard = shard
        self._media = media
        self._name = store.shard(shard).name
        self._loop = asyncio.get_running_loop()
        self._holding = Holding(holding_path(store.run, shard), write=True)
        self._mode = Mode.FOLLOWING
        self._epoch = 0
        self._close = False
        self._close_at = -math.inf
        self._blind = False
        self._follower: Follower | None = None
        self._hosted: HostedShard | None = None
        self._failure = ""
        self._order: Own | Release | None = None
        self._waiting: list[Queued] = []
        self._moved = NotOwnerError.of(self._name)
        self._wake = asyncio.Event()
        self._link = AgentLink(
            store.run,
            self._state(),
            lambda order: self._loop.call_soon_threadsafe(self._ordered, order),
        )

    async def serve(self, *, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Until `stop`. Raises CorruptDataError, MediaFailedError: the process must end."""
        connections: set[Connection] = set()
        with self._store.lock_shard(self._shard):
            self._holding.leave()
            self._holding.replaced()
            sock = sockets.listen(self._store.run, self._store.socket_name(self._shard))
            server = await self._loop.create_unix_server(
                lambda: Connection(self, connections), sock=sock
            )
            self._link.start()
            ready()
            watching = self._loop.create_task(self._wake_at(stop))
            try:
                # A base of gigabytes takes its time; meanwhile we say that we have nothing.
                await self._loop.run_in_executor(
                    None, restore_shard, self._store, self._shard, self._media
                )
                self._begin_following()
                while not stop.is_set():
                    self._wake.clear()
                    self._link.tick()
                    await self._wait(await self._step())
                await self._end_in_order()
            finally:
                watching.cancel()
                server.close()
                self._holding.leave()
                for connection in list(connections):
                    connection.end(answered=not self._failure)
                await asyncio.sleep(0)  # for the transports to send what is written
                self._link.close()
                self._holding.close()

    def submit(self, connection: Connection, requests: list[tuple[int, Mutation]]) -> None:
        """Take requests from a connection."""
        if self._mode is Mode.OWNING and self._hosted is not None and not self._failure:
            self._hosted.submit(connection, requests)
            return
        queued = [Queued(connection, number, mutation) for number, mutation in requests]
        if self._mode is Mode.FOLLOWING:
            _refuse(queued, self._moved)
        else:
            self._waiting += queued

    # --- one step ---

    async def _step(self) -> float:
        """Do what is next to do; how long to wait for news then, in seconds."""
        order, self._order = self._order, None
        if self._mode is Mode.OWNING:
            if self._failure:
                await self._lose()
            elif isinstance(order, Release):
                await self._release()
            else:
                return TICK_S
            return 0.0
        if isinstance(order, Own):
            self._take()
            return 0.0
        return FOLLOW_S if self._follow() else 0.0

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _ordered(self, order: Order) -> None:
        if isinstance(order, Moved):
            self._moved = NotOwnerError.of(self._name, order.epoch, order.address)
            if self._mode is Mode.RELEASED and order.epoch > self._epoch:
                self._set_mode(Mode.FOLLOWING)
        else:
            self._order = order
        self._wake.set()

    # --- following ---

    def _begin_following(self) -> None:
        self._follower = Follower(
            self._shard,
            self._store.view(self._shard),
            self._media.log_source(self._shard, standby=True),
            data_shards=self._store.info.data_shards,
        )

    def _follow(self) -> bool:
        """Follow the log once; whether there is time until the next. Raises CorruptDataError."""
        follower = self._follower
        if follower is None:
            return True
        try:
            close = follower.follow()
        except MediaFailedError as error:
            if not self._blind:
                event("shard_cannot_follow", shard=self._name, reason=str(error))
            self._blind = True
            return True
        self._blind = False
        now = self._loop.time()
        if close:
            self._close_at = now
        # A moment behind is how a standby of a busy shard is half of the time: that is no news.
        was_close = now - self._close_at < CLOSE_S
        if was_close != self._close:
            self._close = was_close
            self._link.tell(self._state())
        return close

    # --- taking and giving ---

    def _take(self) -> None:
        """Fence the log, replay the rest, own it. Stays as it is when another is faster."""
        self._follow()  # while the one before us still serves
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        view = self._store.view(self._shard)
        try:
            shard = Shard(
                self._shard,
                self._media.log(self._shard),
                view,
                data_shards=self._store.info.data_shards,
                now_ms=now_ms,
            )
        except FencedError as error:
            event("shard_not_taken", shard=self._name, reason=str(error))
            self._begin_following()
            return
        directory = self._shard == DIRECTORY_SHARD
        self._hosted = HostedShard(shard, view, self._holding if directory else None, self._failed)
        self._holding.advance()
        self._holding.hold(shard.epoch)
        event("shard_taken", shard=self._name, epoch=shard.epoch, replayed=shard.replayed)
        self._epoch, self._close = shard.epoch, True
        self._set_mode(Mode.OWNING)

    async def _release(self) -> None:
        """The owner's side of a hand-over, and of the end."""
        hosted = self._hosted
        if hosted is None:
            return
        hosted.commit()
        if self._failure:
            return
        self._holding.leave()
        self._hosted = None
        hosted.shard.medium.release()
        event("shard_released", shard=self._name, epoch=self._epoch)
        self._set_mode(Mode.RELEASED)
        self._loop.call_later(HAND_OVER_S_MAX, self._give_up_waiting, self._epoch)
        await hosted.close(release=False)
        self._begin_following()

    async def _lose(self) -> None:
        """Another pod has the log; raises MediaFailedError where it is not as simple as that."""
        hosted, self._hosted = self._hosted, None
        self._holding.leave()
        if hosted is None or not hosted.fenced:
            raise MediaFailedError("own shard", self._name, self._failure)
        event("shard_lost", shard=self._name, epoch=self._epoch, reason=self._failure)
        self._waiting += hosted.take_undecided()
        self._failure = ""
        self._set_mode(Mode.FOLLOWING)
        await hosted.close(release=False)
        self._begin_following()

    async def _end_in_order(self) -> None:
        """Answer for a while longer: who has not heard yet that the shard has moved would not know
        what became of a request that finds nobody.
        """
        if self._mode is Mode.OWNING:
            await self._release()
        self._set_mode(Mode.FOLLOWING)
        if self._follower is not None:
            self._follower.close()
        await asyncio.sleep(LINGER_S)

    def _failed(self, reason: str) -> None:
        if self._hosted is not None:  # what we gave up may say what it likes
            self._failure = reason
            self._wake.set()

    def _give_up_waiting(self, epoch: int) -> None:
        """Nobody took what we released in time: who waits may look elsewhere."""
        if self._mode is Mode.RELEASED and self._epoch == epoch:
            self._set_mode(Mode.FOLLOWING)

    # --- telling ---

    def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        waiting, self._waiting = self._waiting, []
        if mode is Mode.OWNING:
            for each in waiting:
                self.submit(each.connection, [(each.number, each.mutation)])
        elif mode is Mode.FOLLOWING:
            _refuse(waiting, self._moved)
        else:
            self._waiting = waiting
        self._link.tell(self._state())

    def _state(self) -> ShardState:
        return ShardState(shard=self._name, mode=self._mode, epoch=self._epoch, close=self._close)


def _refuse(queued: list[Queued], error: NotOwnerError) -> None:
    for each in queued:
        each.refuse(error)
