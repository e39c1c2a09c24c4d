"""Whether one very large object goes both ways through bounded memory: our store alone.

One PUT of the whole object, its body not signed, made up as it is sent; then one GET of it. Each
MiB is stamped with its number, by which ranges of what was read back are checked.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import bulk
from .cases import Bench
from .conversation import Ask, Conversation
from .outcome import CaseError
from .recorder import Plan, say
from .results import Missed, Results
from .systems import BUCKET, OUR_SYSTEM, Server, our_binary
from .workloads import MIB, STAMP_BYTES

TARGET = f"/{BUCKET}/largest"
CHECKED = 16
PUT_CASE, GET_CASE = "BOUND PUT", "BOUND GET"


def run(plan: Plan, results: Results) -> None:
    """Measure both ways; what fails is noted in the results."""
    size = plan.largest_mib * MIB
    say(f"  one object of {plan.largest_mib:,} MiB")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-bounds-", dir=plan.folder) as folder,
            Server(OUR_SYSTEM, our_binary(), Path(folder)) as server,
        ):
            server.start()
            bench = Bench(server, plan, results, variant=f"{plan.largest_mib:,} MiB")
            head = bench.signer.unsigned_put(TARGET, size)
            _once(bench, PUT_CASE, Ask(content(head, plan.largest_mib)), plan)
            _once(bench, GET_CASE, Ask((bench.signer.head("GET", TARGET),)), plan)
            _check(bench, plan.largest_mib)
    except CaseError as error:
        results.missed.append(Missed(OUR_SYSTEM.name, "bounds", str(error)))
        say(f"  bounds: {error}")


def content(head: bytes, mebibytes: int) -> Iterator[bytes]:
    """The request in pieces, made as they are sent."""
    yield head
    rest = random.Random(9).randbytes(MIB - STAMP_BYTES)
    for number in range(mebibytes):
        yield stamp(number)
        yield rest


def stamp(number: int) -> bytes:
    return b"%0*x" % (STAMP_BYTES, number)


def _once(bench: Bench, case: str, ask: Ask, plan: Plan) -> None:
    def conversation() -> Conversation:
        yield ask

    bench.record(
        case,
        1,
        "threads",
        lambda: bulk.measure(bench.server.port, [conversation()], seconds=plan.seconds),
        payload=plan.largest_mib * MIB,
        first_byte=case == GET_CASE,
    )


def _check(bench: Bench, mebibytes: int) -> None:
    """Read the stamps of some MiB. Raises: CaseError when one is not what was written."""
    with bulk.Connection(bench.server.port) as connection:
        for number in random.Random(1).sample(range(mebibytes), CHECKED):
            wanted = f"Range: bytes={number * MIB}-{number * MIB + STAMP_BYTES - 1}\r\n"
            head = bench.signer.head("GET", TARGET, extra=wanted)
            found = connection.exchange(Ask((head,), keep=True)).body
            if found != stamp(number):
                raise CaseError(f"MiB {number} of the largest object is not what was written")
