"""A steady boto3 load with its default retries, and a ledger of what was acknowledged.

Each thread puts objects of its own, reads some of them back and overwrites and deletes others, and
notes every call that failed for the client, after its retries. At the end every acknowledged
object is read back and compared.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SIZES = (0, 100, 4096, 65_536, 300_000, 2_000_000)
WEIGHTS = (1, 6, 10, 4, 2, 1)
PAUSE_S = 0.15


@dataclass
class Load:
    """The load of `threads` clients on `endpoint`; `with` runs it."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    threads: int = 3
    seed: int = 0
    failures: list[str] = field(default_factory=list)
    ledger: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    longest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: list[threading.Thread] = field(default_factory=list)

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def __enter__(self) -> Load:
        self.client().create_bucket(Bucket=self.bucket)
        self._running = [
            threading.Thread(target=self._work, args=[number], daemon=True)
            for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(120)

    def _work(self, number: int) -> None:
        chance = random.Random(self.seed * 1000 + number)
        client = self.client()
        mine: dict[str, str] = {}
        count = 0
        while not self._stop.is_set():
            what = chance.random()
            if what < 0.5 or not mine:
                key = (
                    f"{number}/{count if what < 0.45 or not mine else chance.choice(range(count))}"
                )
                count += 1
                self._put(client, key, chance, mine)
            elif what < 0.9:
                self._get(client, chance.choice(sorted(mine)), mine)
            elif what < 0.95:
                self._called("ListObjectsV2", client.list_objects_v2, Prefix=f"{number}/")
            else:
                self._delete(client, chance.choice(sorted(mine)), mine)
            time.sleep(PAUSE_S)
        with self._lock:
            self.ledger.update(mine)

    def _put(self, client, key: str, chance: random.Random, mine: dict[str, str]) -> None:
        body = chance.randbytes(chance.choices(SIZES, WEIGHTS)[0])
        mine.pop(key, None)  # until it is acknowledged either content is right
        if self._called("PutObject", client.put_object, Key=key, Body=body) is not None:
            mine[key] = hashlib.sha256(body).hexdigest()

    def _get(self, client, key: str, mine: dict[str, str]) -> None:
        answer = self._called("GetObject", client.get_object, Key=key)
        if answer is None:
            return
        try:
            seen = hashlib.sha256(answer["Body"].read()).hexdigest()
        except BotoCoreError as error:
            self._failed(f"GetObject {key}: {error!r}")
            return
        if seen != mine[key]:
            self._failed(f"GetObject {key}: other bytes than were acknowledged")

    def _delete(self, client, key: str, mine: dict[str, str]) -> None:
        mine.pop(key)
        self._called("DeleteObject", client.delete_object, Key=key)

    def _called(self, name: str, call, **arguments):
        began = time.monotonic()
        try:
            return call(Bucket=self.bucket, **arguments)
        except (BotoCoreError, ClientError) as error:
            self._failed(f"{name} {arguments.get('Key', '')}: {error!r}")
            return None
        finally:
            with self._lock:
                self.calls += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _failed(self, what: str) -> None:
        with self._lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")

    def lost(self) -> list[str]:
        """Every acknowledged object that does not read back byte for byte."""
        client, lost = self.client(), []
        for key, digest in sorted(self.ledger.items()):
            try:
                body = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except (BotoCoreError, ClientError) as error:
                lost.append(f"{key}: {error!r}")
                continue
            if hashlib.sha256(body).hexdigest() != digest:
                lost.append(f"{key}: other bytes")
        return lost

    def clean_up(self) -> None:
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            keys = [{"Key": row["Key"]} for row in page.get("Contents", [])]
            if keys:
                client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys})
        client.delete_bucket(Bucket=self.bucket)
