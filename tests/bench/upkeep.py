"""Whether Atlas at work is felt by requests: our store alone.

A store is filled, most of it deleted again, and Atlas (a process of its own, at its usual rate)
sent over it: it gives space back, moves what lives out of emptied segments, verifies the rest. The
same requests are measured with it halted (SIGSTOP) and let go on (SIGCONT), in turn, round after
round; the row of each is the round of the median p99.
"""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType

from . import wrk
from .cases import Bench
from .outcome import CaseError
from .processes import cpu_seconds
from .recorder import KIB, Plan, say
from .results import Missed, Results, middle
from .systems import BUCKET, OUR_SYSTEM, Server, launch_ours, our_binary

ROUNDS = 5
ROUND_S = 2
BEGIN_S = 1.5  # starting the process is not what is measured
CONNECTIONS = 16
FILL_BYTES = 64 * KIB
KEPT_SHARE = 0.4
READ_KEYS = 10_000
AT_REST, AT_WORK = "Atlas at rest", "Atlas at work"


@dataclass
class Atlas:
    """The process, begun anew whenever it has done all there was to do. Halted when made."""

    data: Path
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Atlas:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        process = self._process
        if process and process.poll() is None:
            process.kill()
            process.wait()

    def go_on(self) -> float:
        """Let it work; returns its processor time so far."""
        if self._process is None or self._process.poll() is not None:
            argv = [our_binary(), "-m", "objectstore_app", "atlas", "run", "--data", str(self.data)]
            with self.log.open("ab") as out:
                self._process = subprocess.Popen(
                    [*argv, "--atlas-grace", "0"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
        else:
            self._process.send_signal(signal.SIGCONT)
        return cpu_seconds(self._process.pid)

    def halt(self) -> float:
        """Make it stand still; returns its processor time so far. Raises: CaseError."""
        process = self._process
        if process is None or process.poll() is not None:
            said = self.log.read_text(errors="replace")[-300:]
            raise CaseError(f"Atlas had no more to do, the store is too small for this: {said}")
        process.send_signal(signal.SIGSTOP)
        return cpu_seconds(process.pid)


def run(plan: Plan, results: Results) -> None:
    """Measure with and without; what fails is noted in the results."""
    rounds = Results()
    system = replace(OUR_SYSTEM, launch=partial(launch_ours, options=("--atlas-interval", "0")))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-atlas-", dir=plan.folder) as name,
            Server(system, our_binary(), Path(name)) as server,
            Atlas(Path(name) / "data", Path(name) / "atlas.log") as atlas,
        ):
            server.start()
            short = replace(plan, seconds=ROUND_S)
            bench = Bench(server, short, rounds)
            _fill(bench, plan.litter_mib)
            targets = [f"/{BUCKET}/read/{number:06d}" for number in range(READ_KEYS)]
            body = wrk.Body(4 * KIB, seed=11)
            writes = wrk.prepare_puts(bench.signer, targets, body)
            bench.send_all(map(writes.request, range(READ_KEYS)))
            atlas.go_on()
            time.sleep(BEGIN_S)
            atlas.halt()
            for number in range(ROUNDS):
                _round(bench, atlas, targets, body, number)
    except CaseError as error:
        results.missed.append(Missed(system.name, "atlas", str(error)))
        say(f"  atlas: {error}")
    results.rows += middle(rounds.rows, lambda row: row.p99_ms)


def _fill(bench: Bench, mebibytes: int) -> None:
    """Write so much, and delete most of it."""
    count = mebibytes * KIB * KIB // FILL_BYTES
    targets = [f"/{BUCKET}/litter/{number:06d}" for number in range(count)]
    prepared = wrk.prepare_puts(bench.signer, targets, wrk.Body(FILL_BYTES, seed=10))
    bench.send_all(map(prepared.request, range(count)))
    gone = random.Random(10).sample(targets, int(count * (1 - KEPT_SHARE)))
    bench.send_all(bench.signer.head("DELETE", target) for target in gone)
    say(f"  {mebibytes:,} MiB written, {1 - KEPT_SHARE:.0%} of it deleted")


def _round(bench: Bench, atlas: Atlas, targets: list[str], body: wrk.Body, number: int) -> None:
    """Each case once at rest and once at work, the order changing. Raises: CaseError.

    At the lowest priority Atlas may get no processor time at all on a busy machine: such a round is
    none.
    """
    fresh = [f"{target}-{number}" for target in targets]
    prepared = {
        "PUT 4 KiB": wrk.prepare_puts(bench.signer, fresh, body),
        "GET 4 KiB": wrk.prepare_gets(bench.signer, targets, body.size),
    }
    order = (AT_REST, AT_WORK) if number % 2 else (AT_WORK, AT_REST)
    for (case, requests), variant in itertools.product(prepared.items(), order):
        bench.variant = variant
        before = atlas.go_on() if variant == AT_WORK else 0.0
        row = bench.replay(case, CONNECTIONS, requests, payload=body.size)
        if variant == AT_WORK:
            used = atlas.halt() - before
            say(f"    Atlas used {used:.2f} s of processor time")
            if row and not used:
                bench.results.rows.remove(row)
