"""What was asked of the store and what it acknowledged: the judge of what may be there afterwards.

Every body follows from a number, so that what is read back says which write it was. A key has at
most one `pending` change, one that was sent and not acknowledged: nobody touches the key again
before the verification has seen whether it happened. So a key is in one of two states, its
acknowledged one or the same with the pending change made, and both are whole.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from objectstore_app.core.limits import MIB

MARKER = -1
PLAIN, VERSIONED = "plain", "versioned"
_PATTERN = random.Random(7).randbytes(8 * MIB)


@dataclass(frozen=True)
class Write:
    """A version's bytes; `seed` is that of its source when it is a copy."""

    number: int
    seed: int
    size: int
    parts: tuple[int, ...] = ()

    def body(self) -> bytes:
        mark = b"%016d" % self.seed
        if self.size < len(mark):
            return mark[len(mark) - self.size :]
        start = self.seed % 1009
        return mark + _PATTERN[start : start + self.size - len(mark)]

    def part_bodies(self) -> list[bytes]:
        body, start, bodies = self.body(), 0, []
        for size in self.parts:
            bodies.append(body[start : start + size])
            start += size
        return bodies

    def etag(self) -> str:
        if not self.parts:
            return md5(self.body()).hex()
        digests = b"".join(map(md5, self.part_bodies()))
        return f"{md5(digests).hex()}-{len(self.parts)}"


@dataclass(frozen=True)
class Change:
    """A write of `number` (MARKER: a delete), or the removal of the version `removes`."""

    number: int
    removes: str = ""


@dataclass
class Version:
    """`id` is empty in a bucket without versions; `number` MARKER is a delete marker."""

    id: str
    number: int


@dataclass
class Key:
    """Acknowledged versions, oldest first (at most one without versioning), and what is unsure."""

    versions: list[Version] = field(default_factory=list)
    pending: Change | None = None

    @property
    def current(self) -> int:
        """The number that a plain read finds, MARKER for nothing."""
        return self.versions[-1].number if self.versions else MARKER

    def settle(self, change: Change, version_id: str, *, versioned: bool) -> None:
        """The change happened."""
        self.pending = None
        if change.removes:
            self.versions = [each for each in self.versions if each.id != change.removes]
        elif versioned:
            self.versions.append(Version(version_id, change.number))
        else:
            self.versions = [] if change.number == MARKER else [Version("", change.number)]


@dataclass
class Upload:
    """An upload whose parts are all acknowledged."""

    bucket: str
    key: str
    id: str
    write: Write
    part_etags: list[str]


@dataclass
class OwnBucket:
    """A bucket that a worker makes and removes again; `pending` is the wanted, unsure `exists`."""

    name: str
    exists: bool = False
    pending: bool | None = None


@dataclass
class Ledger:
    """One worker's keys, so that no lock is needed; it goes on from round to round. `completing` is
    uploads whose completion is unsure; `plain` and `versioned` are the buckets of its keys.
    """

    first: int
    bucket: OwnBucket
    plain: str = PLAIN
    versioned: str = VERSIONED
    writes: dict[int, Write] = field(default_factory=dict)
    keys: dict[tuple[str, str], Key] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    completing: list[Upload] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0

    def write(self, size: int, parts: tuple[int, ...] = (), seed: int | None = None) -> Write:
        number = self.first + len(self.writes)
        write = Write(number, number if seed is None else seed, size, parts)
        self.writes[number] = write
        return write


def md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()
