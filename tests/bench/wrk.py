"""Runs wrk over prepared requests: the cheapest client there is, for small requests at full speed.

The file that replay.lua reads: a line `COUNT SHARED_LENGTH`, the bytes that all bodies share, then
for each request a line `HEAD_LENGTH ENDING_LENGTH`, its head and the end of its body. A request
with an ending is sent as head + shared + ending, so that bodies differ (stores that keep equal
blocks once must not profit) though they are not stored one by one.

wrk corrects its latencies for co-ordinated omission: where an answer took more than twice the mean,
it adds what requests sent meanwhile would have seen. The percentiles of all systems are made so.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .outcome import CaseError, Outcome
from .signing import Signer

ENDING_BYTES = 16
MARKER = "RESULT "
SCRIPT = Path(__file__).with_name("replay.lua")
GRACE_S = 60
INSTALL = ("apt-get", "install", "-qy", "--no-install-recommends", "wrk")


@dataclass
class Prepared:
    """Requests that share most of their body. `payload_bytes` is what one of them moves."""

    payload_bytes: int
    shared: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    endings: list[bytes] = field(default_factory=list)

    def request(self, index: int) -> bytes:
        ending = self.endings[index]
        return self.heads[index] + (self.shared + ending if ending else b"")

    def write(self, path: Path) -> None:
        with path.open("wb") as out:
            out.write(b"%d %d\n" % (len(self.heads), len(self.shared)) + self.shared)
            for head, ending in zip(self.heads, self.endings, strict=True):
                out.write(b"%d %d\n" % (len(head), len(ending)) + head + ending)


def random_bytes(size: int, seed: int, *, text: bool = False) -> bytes:
    """Bytes that do not compress, or as text (hexadecimal digits) such as compress to a half."""
    drawn = random.Random(seed).randbytes(size)
    return drawn.hex().encode()[:size] if text else drawn


class Body:
    """Bodies of one size that differ in their last bytes; hashing one costs only the end."""

    def __init__(self, size: int, seed: int, *, text: bool = False) -> None:
        self.size = size
        self.shared = random_bytes(size - ENDING_BYTES, seed, text=text)
        self._state = hashlib.sha256(self.shared)

    def ending(self, number: int) -> tuple[bytes, str]:
        """The last bytes of body `number`, and the SHA-256 of the whole."""
        ending = b"%0*x" % (ENDING_BYTES, number)
        state = self._state.copy()
        state.update(ending)
        return ending, state.hexdigest()


def prepare_gets(signer: Signer, targets: list[str], size: int) -> Prepared:
    heads = [signer.head("GET", target) for target in targets]
    return Prepared(size, heads=heads, endings=[b""] * len(heads))


def prepare_puts(signer: Signer, targets: list[str], body: Body) -> Prepared:
    made = Prepared(body.size, body.shared)
    for number, target in enumerate(targets):
        ending, payload_hash = body.ending(number)
        made.heads.append(signer.head("PUT", target, length=body.size, payload_hash=payload_hash))
        made.endings.append(ending)
    return made


def mix(gets: Prepared, puts: Prepared, *, get_share: float, seed: int) -> Prepared:
    """Both kinds in random order; every PUT is used once, GETs are drawn."""
    draw = random.Random(seed)
    made = Prepared(puts.payload_bytes, puts.shared)
    for index in range(len(puts.heads)):
        while draw.random() < get_share:
            made.heads.append(draw.choice(gets.heads))
            made.endings.append(b"")
        made.heads.append(puts.heads[index])
        made.endings.append(puts.endings[index])
    return made


def find() -> str | None:
    """Where wrk is, installed from Debian where that is possible; None where it is not."""
    if not (found := shutil.which("wrk")) and os.geteuid() == 0 and shutil.which("apt-get"):
        print("wrk: installing Debian's package wrk", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (("apt-get", "update", "-q"), INSTALL):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        found = shutil.which("wrk")
    return found


def run(program: str, port: int, prepared: Prepared, *, connections: int, seconds: int) -> Outcome:
    """Send the requests in turn over `connections` for `seconds`. Raises: CaseError."""
    with tempfile.TemporaryDirectory(prefix="bench-wrk-") as folder:
        path = Path(folder) / "requests"
        prepared.write(path)
        argv = [
            *(program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"),
            *("-s", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", str(path)),
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CaseError(f"wrk did not end within {GRACE_S} s of its time") from error
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise CaseError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read_result(done.stdout, cpu_s)


def read_result(output: str, client_cpu_s: float) -> Outcome:
    """What replay.lua printed. Raises: CaseError when it printed nothing of the kind."""
    lines = [line for line in output.splitlines() if line.startswith(MARKER)]
    if len(lines) != 1:
        raise CaseError(f"wrk printed no result: {output[-300:]}")
    values = json.loads(lines[0].removeprefix(MARKER))
    kinds = ("status", "connect", "read", "write", "timeout")
    return Outcome(
        operations=values["requests"],
        seconds=values["microseconds"] / 1e6,
        read_bytes=values["bytes"],
        p50_ms=values["p50_us"] / 1000,
        p99_ms=values["p99_us"] / 1000,
        client_cpu_s=max(client_cpu_s - values["prepared_s"], 0.0),
        failures={kind: values[kind] for kind in kinds if values[kind]},
    )
