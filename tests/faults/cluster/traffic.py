"""The load on a deployment while it suffers, and what must be true of its data afterwards.

Through each client address, over buckets of all shards: registers (`registers.py`), whose reads
are judged as they come; workers with every kind of S3 write, copies, versions and uploads in parts,
whose data is read back as a whole when all is well (`verify.py`); and two clients as applications
have them, boto3 with its own retries. Nobody else retries anything.
"""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.ansible.load import Load
from tests.faults.client import Answer, Client, LostError, path
from tests.faults.cluster.calls import PAUSE_S, Calls, WatchedClient
from tests.faults.cluster.registers import Registers
from tests.faults.ledger import Ledger, OwnBucket
from tests.faults.load import Worker
from tests.faults.verify import listed_versions, verify

SHARDS = 3
KEYS = 60
WRITES_MAX = 1_000_000
PATIENCE_S = 30.0
END_S_MAX = 60.0
APPLICATIONS = 2
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


class PatientClient(Client):
    """Repeats lost calls, to prepare and to read back: what it asks may be done twice."""

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return super().__call__(method, target, body, headers)
            except LostError:
                if time.monotonic() > end:
                    raise
                time.sleep(PAUSE_S)


@dataclass(frozen=True)
class Endpoint:
    """Where clients reach a deployment, and who they are."""

    addresses: tuple[str, ...]
    port: int
    access_key: str
    secret: str

    @property
    def keys(self) -> tuple[str, str]:
        return self.access_key, self.secret


@dataclass
class Traffic:
    """All clients; `with` runs them. Call `settle` afterwards: it raises AssertionError for
    anything that was acknowledged and is not there.
    """

    endpoint: Endpoint
    ledgers: list[Ledger]
    registers: list[Registers]
    seed: int = 0
    calls: Calls = field(default_factory=Calls)
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[Future[None]] = field(default_factory=list)

    @classmethod
    def over_new_buckets(cls, endpoint: Endpoint) -> Traffic:
        """Buckets made one after the other lie on different shards."""
        name = f"faults-{secrets.token_hex(4)}"
        client = PatientClient(endpoint.port, endpoint.addresses[0], *endpoint.keys)
        registers = [Registers(f"{name}-registers-{shard}") for shard in range(SHARDS)]
        ledgers = [
            Ledger(
                shard * WRITES_MAX,
                OwnBucket(f"{name}-own-{shard}"),
                f"{name}-plain-{shard}",
                f"{name}-versioned-{shard}",
            )
            for shard in range(SHARDS)
        ]
        for bucket in [
            *(each.bucket for each in registers),
            *(each.plain for each in ledgers),
            *(each.versioned for each in ledgers),
        ]:
            assert client("PUT", f"/{bucket}").status == 200
        for ledger in ledgers:
            assert client("PUT", f"/{ledger.versioned}?versioning", VERSIONING).status == 200
        client.close()
        return cls(endpoint, ledgers, registers)

    def again(self) -> Traffic:
        """The next run over the same buckets, whose content must have survived all that was."""
        return Traffic(self.endpoint, self.ledgers, self.registers, self.seed + 1)

    def __enter__(self) -> Traffic:
        self.applications = Load(
            f"http://{self.endpoint.addresses[0]}:{self.endpoint.port}",
            *self.endpoint.keys,
            bucket=f"{self.registers[0].bucket}-boto3-{self.seed}",
            threads=APPLICATIONS,
        )
        self.applications.__enter__()
        self._threads = ThreadPoolExecutor(4 * SHARDS)
        start = self._threads.submit
        for shard, registers in enumerate(self.registers):
            for number, (kind, work) in enumerate(
                (("PUT", registers.write), ("GET", registers.read), ("LIST", registers.list))
            ):
                client = self._client(kind, shard, shard + number)
                self._running.append(start(work, client, self._stop))
        for shard, ledger in enumerate(self.ledgers):
            worker = Worker(
                f"w{shard}",
                ledger,
                self._client("mixed", shard, shard + 3),
                self.seed * SHARDS + shard,
                keys=KEYS,
                pause_s=PAUSE_S,
            )
            self._running.append(start(worker.run, self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        self.applications.__exit__()

    def settle(self) -> None:
        """Read back all that was acknowledged, ever since the buckets were made."""
        for each in self._running:
            each.result()
        host = self.endpoint.addresses[-1]

        def connect() -> Client:
            return PatientClient(self.endpoint.port, host, *self.endpoint.keys)

        for ledger in self.ledgers:
            verify(connect, [ledger])
        client = connect()
        for registers in self.registers:
            registers.verify(client)
            assert not registers.stale, "\n".join(registers.stale)
        client.close()
        lost = self.applications.lost()
        self.applications.clean_up()
        assert not lost, "\n".join(lost)

    def clean_up(self) -> None:
        """Remove the buckets with all that is in them."""
        client = PatientClient(self.endpoint.port, self.endpoint.addresses[0], *self.endpoint.keys)
        for bucket in self._buckets():
            for name, versions in listed_versions(client, bucket).items():
                for version_id, _, _ in versions:
                    client("DELETE", path(bucket, name, version_id))
            for upload in [each for ledger in self.ledgers for each in ledger.uploads]:
                if upload.bucket == bucket:
                    client("DELETE", f"{path(bucket, upload.key)}?uploadId={upload.id}")
            client("DELETE", f"/{bucket}")
        client.close()

    def _buckets(self) -> list[str]:
        return [
            *(each.bucket for each in self.registers),
            *(name for each in self.ledgers for name in (each.plain, each.versioned)),
            *(each.bucket.name for each in self.ledgers if each.bucket.exists),
        ]

    @property
    def acknowledged(self) -> int:
        return sum(ledger.acknowledged for ledger in self.ledgers) + sum(
            registers.writes for registers in self.registers
        )

    @property
    def reads(self) -> int:
        return sum(registers.reads for registers in self.registers)

    def _client(self, kind: str, shard: int, number: int) -> WatchedClient:
        endpoint = self.endpoint
        host = endpoint.addresses[number % len(endpoint.addresses)]
        return WatchedClient(
            self.calls, f"shard {shard} at {host}", kind, endpoint.port, host, endpoint.keys
        )
