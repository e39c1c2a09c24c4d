"""Running one case: the client that suits, the costs of the server meanwhile, the row of it all."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import bulk, load, wrk
from .conversation import Ask, Conversation, replay
from .outcome import CaseError, Outcome
from .processes import Watch
from .results import Missed, Results, Row
from .systems import Server
from .workloads import MIB

KIB = 1024
LIST_BODY = b"8 bytes."
SEED_CONNECTIONS = 32


@dataclass(frozen=True)
class Plan:
    """What to run, and how long.

    `connections` are those of the 4 KiB cases, `growth` numbers of objects, `wrk` its program;
    `largest_mib` is the object of the bounds, `litter_mib` what Atlas finds.
    """

    seconds: int
    connections: tuple[int, ...]
    list_keys: int
    growth: tuple[int, ...]
    largest_mib: int
    litter_mib: int
    groups: frozenset[str] = frozenset()
    wrk: str = "wrk"
    folder: Path = Path("/var/tmp")


def say(text: str) -> None:
    print(text, flush=True)


class Recorder:
    """Runs one case at a time against one server, and keeps its row.

    `variant` is what is special about the store; `text`: bodies are such as compress to a half.
    `written` are the targets that there are of each size, for cases that read or delete them.
    """

    def __init__(
        self,
        server: Server,
        plan: Plan,
        results: Results,
        *,
        variant: str = "",
        text: bool = False,
    ) -> None:
        self.variant = variant
        self.text = text
        self.server = server
        self.plan = plan
        self.results = results
        self.signer = server.signer
        self.written: dict[str, list[str]] = {}

    def record(
        self,
        case: str,
        connections: int,
        client: str,
        run: Callable[[], Outcome],
        *,
        payload: int | None = None,
        objects: int | None = None,
        first_byte: bool = False,
    ) -> Row | None:
        """Run one case and keep its row; None when it failed, which is noted.

        `payload`: bytes an operation moves, else what is read counts. `first_byte`: the client's
        time to the first byte is worth keeping.
        """
        row = self.new_row(case, connections)
        name = f"{row.name} c{connections}"
        try:
            with Watch(self.server.pid) as watch:
                outcome = run()
            outcome.check("answered")
        except CaseError as error:
            self.miss(name, error)
            return None
        moved = outcome.read_bytes if payload is None else payload * outcome.operations
        thousands = outcome.operations / 1000
        row.ops_per_s = round(outcome.operations / outcome.seconds, 2)
        row.mib_per_s = round(moved / outcome.seconds / MIB, 2)
        row.p50_ms = round(outcome.p50_ms, 3)
        row.p99_ms = round(outcome.p99_ms, 3)
        row.cpu_s_per_1000 = round(watch.cpu_s / thousands, 4)
        row.rss_mib = round(watch.peak.rss, 1)
        row.pss_mib = round(watch.peak.pss, 1)
        if first_byte and outcome.ttfb_ms is not None:
            row.ttfb_ms = round(outcome.ttfb_ms, 3)
        row.client = client
        row.client_cpu_s_per_1000 = round(outcome.client_cpu_s / thousands, 4)
        row.objects = objects
        self.results.rows.append(row)
        say(
            f"  {name:<28} {row.ops_per_s:>9.1f}/s {row.mib_per_s:>8.1f} MiB/s  p50 "
            f"{row.p50_ms:.2f}  p99 {row.p99_ms:.2f} ms  cpu {row.cpu_s_per_1000 * 1000:.0f} µs"
        )
        return row

    def miss(self, what: str, error: CaseError) -> None:
        """Note what gave no figures."""
        self.results.missed.append(Missed(self.server.system.name, what, str(error)))
        say(f"  {what}: {error}")

    def new_row(self, case: str, connections: int) -> Row:
        """A row without figures yet."""
        system, version = self.server.system, self.server.version
        durability, variant = system.durability, self.variant
        return Row(system.name, version, durability, case, connections, variant=variant)

    def replay(
        self, case: str, connections: int, prepared: wrk.Prepared, **more: int | None
    ) -> Row | None:
        """Prepared requests over and over, by the client that suits the system."""
        seconds = self.plan.seconds
        if not self.server.system.quick_ack:
            return self.record(
                case,
                connections,
                "wrk",
                lambda: wrk.run(
                    self.plan.wrk,
                    self.server.port,
                    prepared,
                    connections=connections,
                    seconds=seconds,
                ),
                **more,
            )
        order = itertools.cycle(range(len(prepared.heads)))
        requests = map(prepared.request, order)
        return self.record(
            case,
            connections,
            "loop",
            lambda: self.load(many(requests, connections), seconds, as_wrk=True),
            **more,
        )

    def load(
        self,
        conversations: list[Conversation],
        seconds: float | None = None,
        *,
        as_wrk: bool = False,
    ) -> Outcome:
        """Hold conversations on the event loop. Raises: CaseError when a connection breaks."""
        quick_ack = self.server.system.quick_ack
        port = self.server.port
        try:
            return load.measure(
                port, conversations, seconds=seconds, quick_ack=quick_ack, as_wrk=as_wrk
            )
        except OSError as error:
            raise CaseError(f"a connection broke: {error}") from error

    def seed(self, bucket: str, keys: list[str]) -> None:
        """Make a bucket and these keys in it. Raises: CaseError."""
        began = time.monotonic()
        self.send_all(iter([self.signer.put(f"/{bucket}")]))
        self.send_all(self.signer.put(f"/{bucket}/{key}", LIST_BODY) for key in keys)
        say(f"  {len(keys)} keys made in {time.monotonic() - began:.0f} s")

    def send_all(self, requests: Iterator[bytes]) -> None:
        """Send each once. Raises: CaseError."""
        self.load(many(requests, SEED_CONNECTIONS)).check("seeding")

    def verify(self, target: str, digest: str) -> None:
        """What was written is what is read. Raises: CaseError."""
        request = Ask((self.signer.head("GET", target),), keep=True)
        try:
            with bulk.Connection(self.server.port) as connection:
                answer = connection.exchange(request)
        except OSError as error:
            raise CaseError(f"GET {target}: {error}") from error
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != digest:
            raise CaseError(f"GET {target} gave {answer.status} and not what was written")


def many(requests: Iterator[bytes], connections: int) -> list[Conversation]:
    """Connections that share what is to be sent."""
    return [replay(requests) for _ in range(connections)]
