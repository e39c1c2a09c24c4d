"""Objects that are overwritten again and again and read by others meanwhile: is any read stale?

Each object holds a number; one writer makes it grow. A read that began after a write was
acknowledged must find that one or a later one, and one that was sent at all; and what was found
once is the least that may be found later, whoever asks. An object whose last write is unsure gets
no other: it may still come true.
"""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass

from defusedxml.ElementTree import ParseError

from tests.faults.client import NAMESPACE, Client, LostError, path, text
from tests.faults.cluster.calls import PAUSE_S

OBJECTS = 12
PREFIX = "register/"


@dataclass
class Register:
    """The numbers of one object: acknowledged or seen, and the last that was sent."""

    least: int = 0
    sent: int = 0


class Registers:
    """Of one bucket, with a thread each that writes, reads and lists them."""

    def __init__(self, bucket: str, pause_s: float = PAUSE_S) -> None:
        self.bucket = bucket
        self._pause_s = pause_s
        self.stale: list[str] = []
        self.reads = 0
        self.writes = 0
        self._lock = threading.Lock()
        self._held: dict[str, Register] = {}
        self._writable: list[str] = []
        self._made = 0

    def write(self, client: Client, stop: threading.Event) -> None:
        turn = 0
        while not stop.wait(self._pause_s):
            while len(self._writable) < OBJECTS:
                self._writable.append(f"{PREFIX}{self._made:06d}")
                self._made += 1
            turn += 1
            key = self._writable[turn % OBJECTS]
            with self._lock:
                register = self._held.setdefault(key, Register())
                register.sent += 1
                number = register.sent
            try:
                answer = client("PUT", path(self.bucket, key), b"%d" % number)
            except LostError:
                self._writable.remove(key)
                continue
            if answer.status != 200:
                self._wrong(f"PUT {key}: {answer.status} {answer.body[:200]!r}")
                continue
            with self._lock:
                register.least = max(register.least, number)
            self.writes += 1

    def read(self, client: Client, stop: threading.Event) -> None:
        rng = random.Random(self.bucket)
        while not stop.wait(self._pause_s):
            with self._lock:
                known = [key for key, register in self._held.items() if register.least]
                key = rng.choice(known[-4 * OBJECTS :]) if known else ""
                least = self._held[key].least if key else 0
            if not key:
                continue
            try:
                answer = client("GET", path(self.bucket, key))
            except LostError:
                continue
            found = int(answer.body) if answer.status == 200 else 0
            self._judge(f"GET {key} ({answer.status})", key, found, least)

    def list(self, client: Client, stop: threading.Event) -> None:
        target = f"/{self.bucket}?list-type=2&prefix={PREFIX}"
        while not stop.wait(self._pause_s):
            with self._lock:
                before = {key: register.least for key, register in self._held.items()}
            try:
                answer = client("GET", target)
            except LostError:
                continue
            try:
                listed = {
                    text(entry, "Key"): text(entry, "ETag").strip('"')
                    for entry in answer.xml.iter(f"{NAMESPACE}Contents")
                }
                truncated = text(answer.xml, "IsTruncated") == "true"
            except ParseError:
                self._wrong(f"LIST: {answer.status} {answer.body[:200]!r}")
                continue
            for key, least in before.items():
                if key not in listed and truncated:
                    continue  # behind the page
                found = self._number(key, least, listed.get(key, ""))
                self._judge(f"LIST {key} ({answer.status})", key, found, least)

    def verify(self, client: Client) -> None:
        """Read all of them once more."""
        for key, register in self._held.items():
            answer = client("GET", path(self.bucket, key))
            found = int(answer.body) if answer.status == 200 else 0
            self._judge(f"GET {key} ({answer.status}) at the end", key, found, register.least)

    def _number(self, key: str, least: int, etag: str) -> int:
        """The number with this ETag; 0 for none that may be there, or for no object at all."""
        with self._lock:
            sent = self._held[key].sent
        for number in range(sent, max(least, 1) - 1, -1):
            if hashlib.md5(b"%d" % number).hexdigest() == etag:
                return number
        return 0

    def _judge(self, what: str, key: str, found: int, least: int) -> None:
        with self._lock:
            register = self._held[key]
            self.reads += 1
            if least <= found <= register.sent:
                register.least = max(register.least, found)
                return
            sent = register.sent
        self._wrong(f"{what}: found {found}, not {least} to {sent}")

    def _wrong(self, what: str) -> None:
        with self._lock:
            self.stale.append(f"{self.bucket}: {what}")
