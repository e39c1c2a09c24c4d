"""Which pods of a service are surely dead, before their sessions have expired.

Theory of operation. A connection is kept to the gateway of each other pod. When a process ends,
however it ends, its kernel closes its connections, and refuses new ones, or its address is gone
with it: a pod whose connection broke, and whose address then takes no other, has no processes that
serve. That is no proof that nothing of it lives, and need not be: its shards are taken by fencing
their logs. A pod that falls silent says nothing by that; its session will tell.

What takes connections at the address of a dead pod may be that pod started again, and not ready for
what it was registered for. It registers anew, or its last session expires; so who is found dead
counts again only when it has taken a connection for longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from ..config.coordination import PodRecord
from ..config.service import SESSION_S_DEFAULT
from ..core.errors import invariant
from ..runtime.logging import event

CONNECT_S_MAX = 1.0
RETRY_S = 0.25
RETURN_S = 5.0

invariant(SESSION_S_DEFAULT < RETURN_S, "what a pod registered in its last life is gone by then")


class Peers:
    """Belongs to one loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when a pod was found dead, or alive again."""
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._watches: dict[PodRecord, asyncio.Task[None]] = {}
        self._dead: set[PodRecord] = set()

    def watch(self, pods: Mapping[str, PodRecord]) -> frozenset[str]:
        """Watch these and no others from now on; the names of those that are dead."""
        lives = {_life(record): name for name, record in pods.items()}
        for life in self._watches.keys() - lives.keys():
            self._watches.pop(life).cancel()
            self._dead.discard(life)
        for life in lives.keys() - self._watches.keys():
            self._watches[life] = self._loop.create_task(self._keep(life))
        return frozenset(lives[life] for life in self._dead)

    async def close(self) -> None:
        for task in self._watches.values():
            task.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches.clear()

    async def _keep(self, life: PodRecord) -> None:
        host, _, port = life.address.rpartition(":")
        known = broke = False
        while True:
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            except OSError as error:  # TimeoutError is one of them
                if broke or (known and isinstance(error, ConnectionRefusedError)):
                    self._found(life, dead=True)
                await asyncio.sleep(RETRY_S)
                continue
            known = True
            try:
                await self._until_lost(life, reader)
                broke = True
            except OSError as error:
                # Anything else says that it was lost, not that the other end ended it.
                broke = isinstance(error, ConnectionError)
            finally:
                writer.transport.abort()

    async def _until_lost(self, life: PodRecord, reader: asyncio.StreamReader) -> None:
        """Raises OSError."""
        if life in self._dead:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETURN_S):
                    await reader.read()
                    return
        self._found(life, dead=False)
        await reader.read()

    def _found(self, life: PodRecord, *, dead: bool) -> None:
        if dead == (life in self._dead):
            return
        (self._dead.add if dead else self._dead.discard)(life)
        event("pod_found_dead" if dead else "pod_found_alive", pod=life.pod)
        self._changed()


def _life(record: PodRecord) -> PodRecord:
    """What stays the same as long as the pod lives."""
    return PodRecord(
        pod=record.pod, service=record.service, address=record.address, since=record.since
    )
