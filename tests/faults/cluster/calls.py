"""What clients of a deployment noticed: every call with its outcome, and the longest waits.

A client makes one call after the other, retries nothing and waits `PAUSE_S` between two calls. It
waited for the store from the end of one call that succeeded to the end of the next one: that covers
refusals as well as answers that came late. The pause is part of it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.client import Answer, Client, LostError

PAUSE_S = 0.1
KINDS = ("PUT", "GET", "LIST", "mixed")


@dataclass(frozen=True)
class Call:
    """A call of one client; times are of time.monotonic(). `failure` is empty when it succeeded."""

    client: str
    kind: str
    began: float
    ended: float
    failure: str = ""


class Calls:
    """All calls of all clients; for threads."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def note(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def all(self) -> list[Call]:
        with self._lock:
            return list(self._calls)


class WatchedClient(Client):
    """A client whose calls are noted. An answer of a server that could not do it is a lost call,
    like one that never came: the outcome of a write is unknown.
    """

    def __init__(
        self, calls: Calls, name: str, kind: str, port: int, host: str, keys: tuple[str, str]
    ) -> None:
        super().__init__(port, host, *keys)
        self.name = name
        self._calls = calls
        self._kind = kind

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Raises LostError."""
        began, failure = time.monotonic(), ""
        try:
            answer = super().__call__(method, target, body, headers)
            if answer.status >= 500:
                raise LostError(f"{method} {target}: {answer.status}")
        except LostError as error:
            failure = str(error).removeprefix(f"{method} {target}: ")
            raise
        finally:
            call = Call(self.name, self._kind, began, time.monotonic(), failure)
            self._calls.note(call)
        return answer


def longest_waits(
    calls: Iterable[Call], start: float, end: float, *, whole: bool = False
) -> dict[str, float]:
    """For each kind the longest time between two successes of one client, of those that began
    within these bounds and, unless only `whole` ones are asked for, the ones that reach into them.
    Who never succeeds again waited until the end of its last call.
    """
    longest: dict[str, float] = {}
    of_client: dict[tuple[str, str], list[Call]] = {}
    for call in sorted(calls, key=lambda each: each.ended):
        of_client.setdefault((call.client, call.kind), []).append(call)
    for (_, kind), made in of_client.items():
        last = made[0].began
        for call in made:
            if call.failure and call is not made[-1]:
                continue
            if call.ended >= start and last <= end and (last >= start or not whole):
                longest[kind] = max(longest.get(kind, 0.0), call.ended - last)
            last = call.ended
    return longest


def failures(calls: Iterable[Call], start: float, end: float) -> Counter[str]:
    """How many calls failed that ended within these bounds, by what was said."""
    return Counter(call.failure for call in calls if call.failure and start <= call.ended <= end)
