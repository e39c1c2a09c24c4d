"""What a shard's process and its pod's agent tell each other."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from objectstore_app.metadata_service import pod_talk, sockets
from objectstore_app.metadata_service.pod_talk import (
    SOCKET_NAME,
    AgentLink,
    Mode,
    Moved,
    Order,
    Own,
    Release,
    ShardState,
    decode_state,
    line_of,
)

STATE = ShardState(shard="shard-000", mode=Mode.FOLLOWING)


class FakeAgent:
    """Listens like an agent, and takes one connection at a time."""

    def __init__(self, run: Path) -> None:
        self._listener = sockets.listen(run, SOCKET_NAME)
        self._listener.settimeout(10)
        self._held = b""

    def accept(self) -> None:
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(10)

    def hears(self) -> ShardState:
        while b"\n" not in self._held:
            data = self._connection.recv(4096)
            assert data
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return decode_state(line)

    def says(self, data: bytes) -> None:
        self._connection.sendall(data)

    def hang_up(self) -> None:
        self._connection.close()
        self._held = b""

    def close(self) -> None:
        for each in (self._connection, self._listener):
            each.close()


@pytest.fixture
def orders() -> queue.Queue[Order]:
    return queue.Queue()


@pytest.fixture
def link(tmp_path: Path, orders: queue.Queue[Order]) -> Iterator[AgentLink]:
    found = AgentLink(tmp_path, STATE, orders.put)
    found.start()
    yield found
    found.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    found = FakeAgent(tmp_path)
    yield found
    found.close()


def test_state_is_told_at_once_when_it_changes_and_now_and_then_anyway(
    agent: FakeAgent, link: AgentLink
) -> None:
    agent.accept()
    assert agent.hears() == STATE
    assert agent.hears() == STATE
    owning = ShardState(shard="shard-000", mode=Mode.OWNING, epoch=7, close=True)
    begun = time.monotonic()
    link.tell(owning)
    while agent.hears() != owning:
        assert time.monotonic() < begun + 10


def test_orders_arrive_in_their_order_however_they_are_cut(
    agent: FakeAgent, link: AgentLink, orders: queue.Queue[Order]
) -> None:
    agent.accept()
    sent: list[Order] = [Own(), Moved(7, "10.244.1.2:7201"), Release()]
    stream = b"".join(map(line_of, sent))
    for start in range(0, len(stream), 5):
        agent.says(stream[start : start + 5])
    assert [orders.get(timeout=10) for _ in sent] == sent


def test_next_agent_is_told_the_state(agent: FakeAgent, link: AgentLink) -> None:
    for _ in range(3):
        agent.accept()
        assert agent.hears() == STATE
        agent.hang_up()


def test_agent_that_says_nonsense_is_left_and_found_again(
    agent: FakeAgent, link: AgentLink, orders: queue.Queue[Order]
) -> None:
    agent.accept()
    agent.says(b'{"type":"explode"}\n')
    agent.accept()
    agent.says(line_of(Own()))
    assert orders.get(timeout=10) == Own()


def test_process_that_only_waits_says_so(
    agent: FakeAgent, link: AgentLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.accept()
    assert not agent.hears().blocked
    monkeypatch.setattr(pod_talk, "BLOCKED_S_MAX", 0.0)
    while not agent.hears().blocked:
        pass
    monkeypatch.setattr(pod_talk, "BLOCKED_S_MAX", 3600.0)
    link.tick()
    while agent.hears().blocked:
        pass


def test_process_lives_without_an_agent(tmp_path: Path, orders: queue.Queue[Order]) -> None:
    link = AgentLink(tmp_path, STATE, orders.put)
    link.start()
    link.tell(STATE)
    with pytest.raises(FileNotFoundError):
        sockets.connect(tmp_path, SOCKET_NAME)
    link.close()
    assert orders.empty()
