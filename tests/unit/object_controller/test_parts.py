"""Very large versions: their parts keep rows of their own, read as a range asks for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from objectstore_app.core.ids import UserId
from objectstore_app.metadata_service import uploads
from objectstore_app.metadata_service.api import (
    AbortUpload,
    Attributes,
    Bucket,
    CompletedPart,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    DeleteKey,
    ObjectVersion,
    OpenBucket,
    PutPart,
    Upload,
)
from objectstore_app.metadata_service.errors import UnavailableError, UploadMissingError
from objectstore_app.metadata_service.inventory import garbage_of
from objectstore_app.metadata_service.memory import MemoryService, memory_service
from objectstore_app.object_controller import parts as parts_module
from objectstore_app.object_controller.parts import KeptParts, stored_parts
from objectstore_app.object_controller.results import expect
from objectstore_app.object_controller.send import StoredPayload, read_body

OWNER = UserId("o" * 64)
NUMBERS = (1, 2, 4, 7, 8, 11)
UNUSED = 5


@dataclass
class Made:
    """A service with one version made of parts, and what its bytes are."""

    service: MemoryService
    bucket: Bucket
    upload: Upload
    content: bytes

    async def version(self) -> ObjectVersion:
        found = await self.service.client.lookup(self.bucket, b"k")
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "ROW_EXTENTS_BYTES_MAX", 10)
    monkeypatch.setattr(uploads, "PART_BYTES_MIN", 1)
    monkeypatch.setattr(parts_module, "KEPT_PARTS_AT_ONCE", 2)


async def make(numbers: tuple[int, ...] = NUMBERS) -> Made:
    service = memory_service()
    client, chunks = service.client, service.chunks
    bucket = expect(await client.mutate_directory(CreateBucket(name="b", owner=OWNER)), Bucket)
    await client.mutate(bucket, OpenBucket(bucket=bucket.id))
    upload = expect(
        await client.mutate(bucket, CreateUpload(bucket=bucket.id, key=b"k", owner=OWNER)), Upload
    )
    content, sizes = b"", []
    for number in (*numbers, UNUSED):
        data = random.Random(number).randbytes(200_000 + number)
        # The last part may lie in a record, the others are chunks.
        inside = number == numbers[-1]
        data = data[:1000] if inside else data
        extents = (
            []
            if inside
            else [await chunks.write(data[at : at + 90_000]) for at in range(0, len(data), 90_000)]
        )
        await client.mutate(
            bucket,
            PutPart(
                bucket=bucket.id, key=b"k", upload_id=upload.upload_id, number=number,
                size=len(data), etag=f"{number}", data=data if inside else b"",
                extents=tuple(extents),
            ),
        )  # fmt: skip
        if number != UNUSED:
            content += data
            sizes.append(len(data))
    await client.mutate(
        bucket,
        CompleteUpload(
            bucket=bucket.id, key=b"k", upload_id=upload.upload_id,
            parts=tuple(CompletedPart(number, f"{number}") for number in numbers),
            etag="e", attributes=Attributes(part_sizes=tuple(sizes)),
        ),
    )  # fmt: skip
    return Made(service, bucket, upload, content)


def run(test: Callable[[Made], Awaitable[None]], numbers: tuple[int, ...] = NUMBERS) -> None:
    async def main() -> None:
        await test(await make(numbers))

    asyncio.run(main())


@pytest.mark.parametrize("numbers", [NUMBERS, (1, 2, 3, 4)])
def test_any_range_of_kept_parts_reads_back(numbers: tuple[int, ...]) -> None:
    async def test(made: Made) -> None:
        version = await made.version()
        assert version.body.upload == made.upload.upload_id
        assert version.body.extents == ()
        assert version.size == len(made.content)
        body = KeptParts(made.service.client, made.bucket, version)
        edges = [0, 1, 89_999, 90_000, 200_001, 200_002, 400_003, version.size - 1001, version.size]
        for start in edges:
            for end in edges:
                if start >= end:
                    continue
                found = await read_body(body, made.service.reader, start, end - start)
                whole = (
                    found
                    if isinstance(found, bytes)
                    else b"".join(
                        [bytes(piece) async for piece in found]  # type: ignore[arg-type]
                    )
                )
                assert whole == made.content[start:end]
        copied = StoredPayload(body, made.service.reader, 70_000, 500_000)
        joined = bytearray()
        while piece := await copied.read():
            joined += piece
        assert joined == made.content[70_000:570_000]

    run(test, numbers)


def test_upload_of_kept_parts_is_over() -> None:
    async def test(made: Made) -> None:
        client, bucket, upload_id = made.service.client, made.bucket, made.upload.upload_id
        assert await client.upload(bucket, b"k", upload_id) is None
        assert (await client.list_uploads(bucket)).entries == ()
        with pytest.raises(UploadMissingError):
            await client.mutate(
                bucket, AbortUpload(bucket=bucket.id, key=b"k", upload_id=upload_id)
            )
        kept = await stored_parts(client, bucket, upload_id)
        assert [part.number for part in kept] == list(NUMBERS)
        assert all(not part.body.extents for part in kept)

    run(test)


def test_delete_leaves_no_row_of_kept_parts_and_ends_a_read_under_way() -> None:
    async def test(made: Made) -> None:
        client, bucket, version = made.service.client, made.bucket, await made.version()
        body = KeptParts(client, bucket, version)
        touched = body.touched(0, version.size)
        await anext(touched)
        await client.mutate(bucket, DeleteKey(bucket=bucket.id, key=b"k", owner=OWNER))
        assert await client.parts(bucket, made.upload.upload_id) == []
        garbage = list(garbage_of(client._data_shards[bucket.shard].view))
        assert sum(one.length for one in garbage) == version.size + 200_000 + UNUSED
        assert len({(one.segment, one.offset) for one in garbage}) == len(garbage)
        with pytest.raises(UnavailableError):
            [one async for one in touched]

    run(test)


def test_kept_parts_are_the_same_after_a_replay() -> None:
    async def test(made: Made) -> None:
        again = memory_service(store=made.service.store)
        assert await again.client.lookup(made.bucket, b"k") == await made.version()
        before = await made.service.client.parts(made.bucket, made.upload.upload_id)
        assert await again.client.parts(made.bucket, made.upload.upload_id) == before

    run(test)
