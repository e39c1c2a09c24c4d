"""Which pods are found dead: those whose connection broke and whose address takes no other."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import pytest

from objectstore_app.config.coordination import PodRecord
from objectstore_app.metadata_service import peers
from objectstore_app.metadata_service.peers import Peers
from tests.engine.pods import until


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RETRY_S", 0.01)
    monkeypatch.setattr(peers, "RETURN_S", 0.2)


class Listener:
    """What a gateway is to its peers."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self._peers: list[socket.socket] = []

    @property
    def record(self) -> PodRecord:
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        return PodRecord(pod="one", service="metadata", address=address, since=1)

    async def accept(self) -> None:
        peer, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        self._peers.append(peer)

    def hang_up(self) -> None:
        for peer in self._peers:
            peer.close()
        self._peers.clear()

    def die(self) -> None:
        self._listener.close()
        self.hang_up()


def with_peers(scenario: Callable[[Peers], Awaitable[None]]) -> None:
    async def run() -> None:
        found = Peers(lambda: None)
        try:
            await scenario(found)
        finally:
            await found.close()

    asyncio.run(run())


async def found_dead(found: Peers) -> PodRecord:
    """What a pod had registered that ended and was found dead."""
    listener = Listener()
    record = listener.record
    assert found.watch({"one": record}) == frozenset()
    await listener.accept()
    listener.die()
    await until(lambda: found.watch({"one": record}) == {"one"}, "found dead")
    return record


def test_pod_that_ends_is_dead_and_one_that_comes_back_is_not() -> None:
    async def scenario(found: Peers) -> None:
        record = await found_dead(found)
        port = int(record.address.rpartition(":")[2])
        again = Listener(port)
        await again.accept()
        await until(lambda: found.watch({"one": record}) == frozenset(), "found alive")
        again.die()

    with_peers(scenario)


def test_pod_that_is_started_again_counts_by_its_next_registration() -> None:
    """Not by the one of its last life, which stands until that session has expired."""

    async def scenario(found: Peers) -> None:
        record = await found_dead(found)
        again = Listener(int(record.address.rpartition(":")[2]))
        await again.accept()
        await asyncio.sleep(0.1)
        assert found.watch({"one": record}) == {"one"}
        next_life = PodRecord(pod="one", service="metadata", address=record.address, since=2)
        assert found.watch({"one": next_life}) == frozenset()
        again.die()

    with_peers(scenario)


def test_connection_that_breaks_alone_says_nothing() -> None:
    async def scenario(found: Peers) -> None:
        listener = Listener()
        found.watch({"one": listener.record})
        for _ in range(3):
            await listener.accept()
            listener.hang_up()
        await listener.accept()
        assert found.watch({"one": listener.record}) == frozenset()
        listener.die()

    with_peers(scenario)


def test_pod_that_ended_and_whose_address_is_gone_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pod of a node that removed it: nobody is left who would refuse."""

    async def scenario(found: Peers) -> None:
        listener = Listener()
        record = listener.record
        found.watch({"one": record})
        await listener.accept()

        async def unreachable(*_: object) -> None:
            raise OSError(errno.EHOSTUNREACH, "No route to host")

        monkeypatch.setattr(asyncio, "open_connection", unreachable)
        await asyncio.sleep(0.05)
        assert found.watch({"one": record}) == frozenset()
        listener.die()
        await until(lambda: found.watch({"one": record}) == {"one"}, "found dead")

    with_peers(scenario)


def test_pod_that_was_never_reached_is_not_called_dead() -> None:
    async def scenario(found: Peers) -> None:
        listener = Listener()
        record = listener.record
        listener.die()
        found.watch({"one": record})
        await asyncio.sleep(0.1)
        assert found.watch({"one": record}) == frozenset()

    with_peers(scenario)


def test_next_life_of_a_pod_does_not_inherit_its_death() -> None:
    async def scenario(found: Peers) -> None:
        record = await found_dead(found)
        next_life = PodRecord(
            pod="one", service="metadata", address=record.address, since=2, ready=("shard-000",)
        )
        assert found.watch({"one": next_life}) == frozenset()
        assert found.watch({}) == frozenset()

    with_peers(scenario)
