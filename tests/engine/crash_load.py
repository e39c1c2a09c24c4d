"""The load of the crash test: a mixed stream of writes, and what each key may hold afterwards.

Every body is derived from a number, so that what is read back says which write it was. A key's
`settled` content is that of the last acknowledged write; writes sent after it and not acknowledged
are `open`: whole or absent. A worker owns its keys, so their writes are in order.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from objectstore_app.core.limits import MIB, RECORD_BODY_BYTES_MAX
from objectstore_app.media.api import ChunkWriter, ExtentReader
from objectstore_app.metadata_service.api import (
    Attributes,
    Bucket,
    CompletedPart,
    CompleteUpload,
    CreateUpload,
    DeleteKey,
    MetadataClient,
    ObjectVersion,
    PutPart,
    PutVersion,
    Upload,
)

from .support import OWNER

ABSENT = -1
_SMALL = (0, 1, 100, 512, 513, 4096, 30_000, RECORD_BODY_BYTES_MAX)
_LARGE = (RECORD_BODY_BYTES_MAX + 1, 300_000)
PART_BYTES = 256 * 1024
_PATTERN = random.Random(7).randbytes(1 * MIB)


@dataclass
class Key:
    """`settled` and `open` hold the numbers of writes; ABSENT stands for a delete."""

    settled: int = ABSENT
    open: list[int] = field(default_factory=list)


@dataclass
class Writes:
    """All that was ever sent: number → size; of versioned keys: version id → number."""

    sizes: list[int] = field(default_factory=list)
    keys: dict[tuple[str, bytes], Key] = field(default_factory=dict)
    versions: dict[tuple[str, bytes, str], int] = field(default_factory=dict)
    acknowledged: int = 0

    def number(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def body(self, number: int) -> bytes:
        size = self.sizes[number]
        mark = b"%016d" % number
        return (mark + _PATTERN[number % 1000 :])[:size] if size >= 16 else mark[16 - size :]


def etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Worker:
    """Writes to its own keys until something fails."""

    def __init__(
        self,
        name: str,
        seed: int,
        writes: Writes,
        client: MetadataClient,
        chunks: ChunkWriter,
        reader: ExtentReader,
        buckets: dict[str, Bucket],
    ) -> None:
        self._name = name
        self._rng = random.Random(seed)
        self._writes = writes
        self._client = client
        self._chunks = chunks
        self._reader = reader
        self._buckets = buckets

    async def step(self) -> None:
        rng = self._rng
        bucket = self._buckets[rng.choice(("plain", "versioned"))]
        name = f"{self._name}/{rng.randrange(12):02d}".encode()
        key = self._writes.keys.setdefault((bucket.name, name), Key())
        action = rng.random()
        if action < 0.15:
            await self._delete(bucket, name, key)
        elif action < 0.25:
            await self._multipart(bucket, name, key)
        elif action < 0.35:
            await self._copy(bucket, name, key)
        else:
            large = rng.random() < 0.15
            size = rng.choice(_LARGE if large else _SMALL)
            number = self._writes.number(size)
            await self._put(bucket, name, key, number, self._writes.body(number))

    async def _put(self, bucket: Bucket, name: bytes, key: Key, number: int, data: bytes) -> None:
        key.open.append(number)
        extents = ()
        if len(data) > RECORD_BODY_BYTES_MAX:
            extents = (await self._chunks.write(data),)
            await self._chunks.flush()
            sent = b""
        else:
            sent = data
        written = await self._client.mutate(
            bucket,
            PutVersion(
                bucket=bucket.id, key=name, owner=OWNER, size=len(data), etag=etag(data),
                attributes=Attributes(user={"number": str(number)}), data=sent, extents=extents,
            ),
        )  # fmt: skip
        self._settle(bucket, name, key, number, written.version_id)

    async def _delete(self, bucket: Bucket, name: bytes, key: Key) -> None:
        key.open.append(ABSENT)
        deleted = await self._client.mutate(
            bucket, DeleteKey(bucket=bucket.id, key=name, owner=OWNER)
        )
        self._settle(bucket, name, key, ABSENT, deleted.version_id)

    async def _copy(self, bucket: Bucket, name: bytes, key: Key) -> None:
        """Read another of our objects and write its bytes here, as a copy does."""
        source = f"{self._name}/{self._rng.randrange(12):02d}".encode()
        found = await self._client.lookup(bucket, source)
        if found is None or found.delete_marker:
            return
        data = await read_version(found, self._reader)
        number = int(found.attributes.user["number"])
        await self._put(bucket, name, key, number, data)

    async def _multipart(self, bucket: Bucket, name: bytes, key: Key) -> None:
        last = self._rng.choice((1, 70_000))
        number = self._writes.number(PART_BYTES + last)
        data = self._writes.body(number)
        upload = await self._client.mutate(
            bucket, CreateUpload(bucket=bucket.id, key=name, owner=OWNER)
        )
        assert isinstance(upload, Upload)
        extent = await self._chunks.write(memoryview(data)[:PART_BYTES])
        await self._chunks.flush()
        pieces = ((1, b"", (extent,), PART_BYTES), (2, data[PART_BYTES:], (), last))
        for part, sent, extents, size in pieces:
            await self._client.mutate(
                bucket,
                PutPart(
                    bucket=bucket.id, key=name, upload_id=upload.upload_id, number=part,
                    size=size, etag=f"p{part}", data=sent, extents=extents,
                ),
            )  # fmt: skip
        key.open.append(number)
        written = await self._client.mutate(
            bucket,
            CompleteUpload(
                bucket=bucket.id, key=name, upload_id=upload.upload_id,
                parts=(CompletedPart(1, "p1"), CompletedPart(2, "p2")), etag=etag(data),
                attributes=Attributes(user={"number": str(number)}),
            ),
        )  # fmt: skip
        self._settle(bucket, name, key, number, written.version_id)

    def _settle(self, bucket: Bucket, name: bytes, key: Key, number: int, version_id: str) -> None:
        key.settled = number
        key.open.clear()
        self._writes.acknowledged += 1
        if version_id and number != ABSENT:
            self._writes.versions[bucket.name, name, version_id] = number


async def read_version(version: ObjectVersion, reader: ExtentReader) -> bytes:
    body = version.body
    if not body.extents:
        return body.inline
    return b"".join([bytes(await reader.read(one, 0, one.length)) for one in body.extents])


async def verify(
    writes: Writes, client: MetadataClient, reader: ExtentReader, buckets: dict[str, Bucket],
    versions: list[tuple[str, bytes, str]],
) -> None:  # fmt: skip
    """Every key holds its settled write or an open one, whole; the named versions are all there."""
    for (bucket_name, name), key in writes.keys.items():
        found = await client.lookup(buckets[bucket_name], name)
        allowed = [key.settled, *key.open]
        if found is None or found.delete_marker:
            assert ABSENT in allowed, f"{bucket_name} {name!r} is gone, wanted one of {allowed}"
            number = ABSENT
        else:
            number = int(found.attributes.user["number"])
            assert number in allowed, f"{bucket_name} {name!r} holds {number}, not {allowed}"
            data = await read_version(found, reader)
            assert data == writes.body(number), f"{bucket_name} {name!r} is torn"
            assert (found.size, found.etag) == (len(data), etag(data))
        key.settled = number
        key.open.clear()
    for bucket_name, name, version_id in versions:
        number = writes.versions[bucket_name, name, version_id]
        held = await client.lookup(buckets[bucket_name], name, version_id)
        assert held is not None, f"version {version_id} of {name!r} is gone"
        assert await read_version(held, reader) == writes.body(number)
