"""Whether Atlas at work is felt by requests: our store alone.

A store is filled, most of it deleted again, and Atlas (a process of its own, at its usual rate)
sent over it: it gives space back, moves what lives out of emptied segments, verifies the rest. The
same requests are measured with it halted (SIGSTOP) and let go on (SIGCONT), one right after the
other, who is first changing from pair to pair; the rows are those of the pair whose ratio of p99 is
the median. Reads are measured before writes: what writes leave to do (the view's log is moved, the
next segment filled) would fall on whichever comes first behind them.
"""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median_high
from types import TracebackType

from . import wrk
from .cases import Bench
from .outcome import CaseError
from .processes import cpu_seconds
from .recorder import KIB, Plan, say
from .results import Missed, Results, Row
from .systems import BUCKET, OUR_SYSTEM, Server, launch_ours, our_binary

PAIRS = 9
ROUND_S = 2
BEGIN_S = 1.5  # starting the process is not what is measured
SETTLE_S = 5.0  # nor what the filling left to do
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
    system = replace(OUR_SYSTEM, launch=partial(launch_ours, options=("--atlas-interval", "0")))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-atlas-", dir=plan.folder) as name,
            Server(system, our_binary(), Path(name)) as server,
            Atlas(Path(name) / "data", Path(name) / "atlas.log") as atlas,
        ):
            server.start()
            bench = Bench(server, replace(plan, seconds=ROUND_S), Results())
            _fill(bench, plan.litter_mib)
            targets = [f"/{BUCKET}/read/{number:06d}" for number in range(READ_KEYS)]
            body = wrk.Body(4 * KIB, seed=11)
            writes = wrk.prepare_puts(bench.signer, targets, body)
            bench.send_all(map(writes.request, range(READ_KEYS)))
            atlas.go_on()
            time.sleep(BEGIN_S)
            atlas.halt()
            time.sleep(SETTLE_S)
            reads = wrk.prepare_gets(bench.signer, targets, body.size)
            results.rows += _measure(bench, atlas, "GET 4 KiB", lambda _: reads)

            def fresh(number: int) -> wrk.Prepared:
                keys = [f"{target}-{number}" for target in targets]
                return wrk.prepare_puts(bench.signer, keys, body)

            results.rows += _measure(bench, atlas, "PUT 4 KiB", fresh)
    except CaseError as error:
        results.missed.append(Missed(system.name, "atlas", str(error)))
        say(f"  atlas: {error}")


def middle_pair(pairs: list[tuple[Row, Row]]) -> tuple[Row, Row]:
    """Of rows at work, each with the one at rest beside it, those whose ratio of p99 is the
    median: what a machine does besides is in both of a pair.
    """

    def ratio(pair: tuple[Row, Row]) -> float:
        return pair[0].p99_ms / pair[1].p99_ms

    wanted = median_high(map(ratio, pairs))
    return next(pair for pair in pairs if ratio(pair) == wanted)


def _fill(bench: Bench, mebibytes: int) -> None:
    """Write so much, and delete most of it."""
    count = mebibytes * KIB * KIB // FILL_BYTES
    targets = [f"/{BUCKET}/litter/{number:06d}" for number in range(count)]
    prepared = wrk.prepare_puts(bench.signer, targets, wrk.Body(FILL_BYTES, seed=10))
    bench.send_all(map(prepared.request, range(count)))
    gone = random.Random(10).sample(targets, int(count * (1 - KEPT_SHARE)))
    bench.send_all(bench.signer.head("DELETE", target) for target in gone)
    say(f"  {mebibytes:,} MiB written, {1 - KEPT_SHARE:.0%} of it deleted")


def _measure(
    bench: Bench, atlas: Atlas, case: str, requests: Callable[[int], wrk.Prepared]
) -> list[Row]:
    """The middle pair of rounds. Raises: CaseError when there is none.

    At the lowest priority Atlas may get no processor time at all on a busy machine: such a pair is
    none.
    """
    pairs = []
    for number in range(PAIRS):
        prepared = requests(number)
        rows = {}
        used = 0.0
        for variant in (AT_REST, AT_WORK) if number % 2 else (AT_WORK, AT_REST):
            bench.variant = variant
            before = atlas.go_on() if variant == AT_WORK else 0.0
            rows[variant] = bench.replay(
                case, CONNECTIONS, prepared, payload=prepared.payload_bytes
            )
            if variant == AT_WORK:
                used = atlas.halt() - before
                say(f"    Atlas used {used:.2f} s of processor time")
        work, rest = rows[AT_WORK], rows[AT_REST]
        if work and rest and used:
            pairs.append((work, rest))
    if not pairs:
        raise CaseError(f"{case}: Atlas got no processor time in any round")
    kept = middle_pair(pairs)
    ratios = " ".join(f"{work.p99_ms / rest.p99_ms:.2f}" for work, rest in pairs)
    say(f"    {case}: p99 at work to that at rest: {ratios}")
    return list(kept)
