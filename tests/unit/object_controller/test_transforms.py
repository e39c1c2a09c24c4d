"""Bodies through every transform, over a whole metadata service in memory."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from objectstore_app.core.ids import NULL_VERSION, UserId
from objectstore_app.core.limits import KIB, MIB, PART_BYTES_MIN, RECORD_BODY_BYTES_MAX
from objectstore_app.iam.errors import SealError
from objectstore_app.iam.keyring import Keyring
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.media.memory import MemoryChunks
from objectstore_app.metadata_service.api import (
    Attributes,
    Bucket,
    CloseKey,
    CompletedPart,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    DeleteKey,
    Moved,
    ObjectVersion,
    OpenBucket,
    RewrapVersion,
    Upload,
    WriteCondition,
)
from objectstore_app.metadata_service.errors import (
    StoreKeyClosedError,
    StoreKeyInUseError,
    StoreKeyMissingError,
)
from objectstore_app.metadata_service.memory import MemoryService, memory_service
from objectstore_app.object_controller.keychain import DEFAULT_KEY, KeyChain
from objectstore_app.object_controller.receive import UploadMemory
from objectstore_app.object_controller.send import pieces_of, read_body
from objectstore_app.object_controller.transforms import (
    Sealing,
    Transform,
    body_context,
    open_body,
    rewraps,
)
from objectstore_app.object_controller.write import Storage, Target, put_object, put_part

OWNER = UserId("a" * 64)
SIZES = [0, 1, 300, 600, 5000, RECORD_BODY_BYTES_MAX, RECORD_BODY_BYTES_MAX + 1, 5 * MIB + 77]


class Pieces:
    """A payload in pieces of 64 KiB."""

    trailers: Mapping[str, str] = {}

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._pieces = [data[at : at + 64 * KIB] for at in range(0, len(data), 64 * KIB)]

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Desk:
    """A service with a bucket and a key chain."""

    def __init__(self, service: MemoryService, bucket: Bucket) -> None:
        self.service = service
        self.bucket = bucket
        self.client = service.client
        self.storage = Storage(service.client, service.chunks, UploadMemory())
        self.keyring = Keyring(bytes(32))
        self.keys = KeyChain(service.client, self.keyring)

    async def transform(
        self, key: bytes, *, compress: bool, encrypt: bool, name: str = DEFAULT_KEY
    ) -> Transform | None:
        sealing = None
        if encrypt:
            sealing = Sealing(*await self.keys.active(name), body_context(self.bucket.id, key))
        return Transform(compress, sealing) if compress or encrypt else None

    async def put(
        self, key: bytes, data: bytes, *, compress: bool = False, encrypt: bool = True
    ) -> ObjectVersion:
        transform = await self.transform(key, compress=compress, encrypt=encrypt)
        target = Target(self.bucket, key, OWNER, Attributes(), WriteCondition(), transform)
        await put_object(self.storage, target, Pieces(data))
        return await self.version(key)

    async def version(self, key: bytes) -> ObjectVersion:
        version = await self.client.lookup(self.bucket, key)
        assert version is not None
        return version

    async def get(
        self,
        version: ObjectVersion,
        start: int = 0,
        length: int | None = None,
        *,
        context: bytes = b"",
    ) -> bytes:
        wanted = version.size - start if length is None else length
        context = context or body_context(self.bucket.id, version.key)
        body, reader = await open_body(version.body, self.service.reader, self.keys, context)
        found = await read_body(body, reader, start, wanted)
        if isinstance(found, bytes):
            return found
        return b"".join([bytes(piece) async for piece in found])


def run(test: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        service = memory_service()
        bucket = await service.client.mutate_directory(CreateBucket(name="bucket", owner=OWNER))
        assert isinstance(bucket, Bucket)
        await service.client.mutate(bucket, OpenBucket(bucket=bucket.id))
        await test(Desk(service, bucket))

    asyncio.run(main())


def text_of(size: int) -> bytes:
    return (b"row %08d of a table, much like the next one\n" * (size // 40 + 1))[:size]


def mixed_of(size: int) -> bytes:
    half = size // 2
    return text_of(half) + random.Random(size).randbytes(size - half)


def damaged(version: ObjectVersion, **changes: object) -> ObjectVersion:
    body = msgspec.structs.replace(version.body, **changes)
    return msgspec.structs.replace(version, body=body)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("content", [text_of, mixed_of, lambda n: random.Random(n).randbytes(n)])
@pytest.mark.parametrize(("compress", "encrypt"), [(1, 0), (0, 1), (1, 1)])
def test_transformed_body_reads_as_the_plain_one(
    size: int, content: Callable[[int], bytes], compress: int, encrypt: int
) -> None:
    async def test(desk: Desk) -> None:
        data = content(size)
        version = await desk.put(b"k", data, compress=bool(compress), encrypt=bool(encrypt))
        assert version.size == size
        assert await desk.get(version) == data
        dice = random.Random(size)
        for _ in range(12 if size else 0):
            start = dice.randrange(size)
            length = dice.randrange(1, size - start + 1)
            assert await desk.get(version, start, length) == data[start : start + length]

    run(test)


def test_compression_saves_and_leaves_what_does_not_shrink_plain() -> None:
    async def test(desk: Desk) -> None:
        small = await desk.put(b"k", text_of(5 * MIB), compress=True, encrypt=False)
        assert sum(extent.length for extent in small.body.extents) < MIB
        noise = random.Random(1).randbytes(5 * MIB)
        plain = await desk.put(b"n", noise, compress=True, encrypt=False)
        assert plain.body.coding == ()
        tiny = await desk.put(b"t", text_of(5000), compress=True, encrypt=False)
        assert tiny.body.inline != b""
        assert await desk.get(tiny) == text_of(5000)

    run(test)


def test_no_plain_byte_of_an_encrypted_body_reaches_the_medium() -> None:
    async def test(desk: Desk) -> None:
        for size in (100, 5000, 3 * MIB):
            await desk.put(b"k%d" % size, b"secret words " * (size // 13))
        assert all(b"secret words" not in held for held in desk.service.store.segments.values())

    run(test)


def test_body_moved_to_another_object_does_not_open() -> None:
    async def test(desk: Desk) -> None:
        for size in (100, 5000, 3 * MIB):
            one = await desk.put(b"one", text_of(size))
            other = await desk.put(b"two", text_of(size))
            with pytest.raises(SealError):
                await desk.get(msgspec.structs.replace(one, key=b"two"))
            wrong = {"inline": other.body.inline, "extents": other.body.extents}
            with pytest.raises(CorruptDataError):
                await desk.get(damaged(one, **wrong))

    run(test)


def test_swapped_chunks_of_one_body_are_damage() -> None:
    async def test(desk: Desk) -> None:
        version = await desk.put(b"k", text_of(5 * MIB))
        first, second, *rest = version.body.extents
        with pytest.raises(CorruptDataError):
            await desk.get(damaged(version, extents=(second, first, *rest)))

    run(test)


def test_lost_key_is_an_error_and_gives_no_bytes() -> None:
    async def test(desk: Desk) -> None:
        version = await desk.put(b"k", text_of(300))
        other_master = KeyChain(desk.client, Keyring(bytes([1]) * 32))
        desk.keys = other_master
        with pytest.raises(SealError):
            await desk.get(version)
        run_ = version.body.coding[0]
        gone = msgspec.structs.replace(run_, key=run_.key + 1)
        with pytest.raises(StoreKeyMissingError):
            await desk.get(damaged(version, coding=(gone,)))

    run(test)


def test_multipart_of_parts_with_different_codings() -> None:
    async def test(desk: Desk) -> None:
        made = await desk.client.mutate(
            desk.bucket, CreateUpload(bucket=desk.bucket.id, key=b"k", owner=OWNER)
        )
        assert isinstance(made, Upload)
        bodies = [text_of(PART_BYTES_MIN), mixed_of(PART_BYTES_MIN + 3), text_of(PART_BYTES_MIN)]
        bodies.append(b"the end")
        named = []
        for number, (data, (compress, encrypt)) in enumerate(
            zip(bodies, [(0, 0), (1, 1), (1, 0), (0, 1)], strict=True), 1
        ):
            transform = await desk.transform(b"k", compress=bool(compress), encrypt=bool(encrypt))
            part = await put_part(
                desk.storage, desk.bucket, made, number, Pieces(data), transform=transform
            )
            named.append(CompletedPart(number, part.etag))
        assert len(await desk.client.key_use()) == 1
        await desk.client.mutate(
            desk.bucket,
            CompleteUpload(
                bucket=desk.bucket.id, key=b"k", upload_id=made.upload_id, parts=tuple(named),
                etag="e-4", attributes=Attributes(),
            ),
        )  # fmt: skip
        version = await desk.version(b"k")
        whole = b"".join(bodies)
        assert await desk.get(version) == whole
        for start in (0, PART_BYTES_MIN - 5, 2 * PART_BYTES_MIN, len(whole) - 10):
            assert await desk.get(version, start, 10) == whole[start : start + 10]
        assert list((await desk.client.key_use()).values()) == [2]
        delete = DeleteKey(bucket=desk.bucket.id, key=b"k", owner=OWNER)
        await desk.client.mutate(desk.bucket, delete)
        assert await desk.client.key_use() == {}

    run(test)


async def rewrap(desk: Desk, version: ObjectVersion) -> object:
    """Wrap the version's data keys by what is active now."""
    wraps = await rewraps(version.body, desk.keys, body_context(desk.bucket.id, version.key))
    return await desk.client.mutate(
        desk.bucket,
        RewrapVersion(bucket=desk.bucket.id, key=version.key, order=version.order, wraps=wraps),
    )


def test_rotated_key_opens_what_it_wrapped_until_nothing_needs_it() -> None:
    async def test(desk: Desk) -> None:
        old = await desk.put(b"k", text_of(3 * MIB))
        first = old.body.coding[0].key
        with pytest.raises(StoreKeyInUseError):
            await desk.keys.retire(DEFAULT_KEY, first)
        await desk.keys.rotate(DEFAULT_KEY)
        new = await desk.put(b"n", text_of(300))
        assert new.body.coding[0].key != first
        assert await desk.get(old) == text_of(3 * MIB)
        with pytest.raises(StoreKeyInUseError):
            await desk.keys.retire(DEFAULT_KEY, first)
        assert await rewrap(desk, old) == Moved()
        assert await rewrap(desk, old) == Moved(moved=False)
        assert await desk.keys.retire(DEFAULT_KEY, first)
        after = await desk.version(b"k")
        assert after.body.extents == old.body.extents
        assert after.version_id == NULL_VERSION
        fresh = KeyChain(desk.client, desk.keyring)
        desk.keys = fresh
        assert await desk.get(after) == text_of(3 * MIB)
        with pytest.raises(StoreKeyMissingError):
            await desk.keys.retire(DEFAULT_KEY, first)

    run(test)


def test_write_under_a_version_retired_meanwhile_is_refused() -> None:
    async def test(desk: Desk) -> None:
        late = await desk.transform(b"k", compress=False, encrypt=True)
        assert late is not None
        assert late.sealing is not None
        await desk.keys.rotate(DEFAULT_KEY)
        await desk.keys.retire(DEFAULT_KEY, late.sealing.key)
        target = Target(desk.bucket, b"k", OWNER, Attributes(), WriteCondition(), late)
        with pytest.raises(StoreKeyClosedError):
            await put_object(desk.storage, target, Pieces(b"body"))
        assert await desk.client.lookup(desk.bucket, b"k") is None

    run(test)


def test_retirement_that_was_cut_off_goes_on() -> None:
    async def test(desk: Desk) -> None:
        version, _ = await desk.keys.active(DEFAULT_KEY)
        await desk.keys.rotate(DEFAULT_KEY)
        await desk.client.mutate_shards(CloseKey(key=version))
        await desk.put(b"k", b"body")
        left = await desk.keys.retire(DEFAULT_KEY, version)
        assert [one.id for one in left.versions] != [version]

    run(test)


def test_restart_finds_keys_and_their_use_as_they_were() -> None:
    async def test(desk: Desk) -> None:
        version = await desk.put(b"k", text_of(5000))
        await desk.keys.rotate(DEFAULT_KEY)
        await rewrap(desk, version)
        use = await desk.client.key_use()
        again = memory_service(store=desk.service.store)
        assert await again.client.key_use() == use
        found = await again.client.lookup(desk.bucket, b"k")
        assert found is not None
        desk.service, desk.keys = again, KeyChain(again.client, desk.keyring)
        assert await desk.get(found) == text_of(5000)

    run(test)


def test_flipped_bit_anywhere_in_the_store_is_never_served() -> None:
    async def test(desk: Desk) -> None:
        data = mixed_of(40_000)
        version = await desk.put(b"k", data, compress=True)
        [extent] = version.body.extents
        segment = desk.service.store.segments[extent.segment]
        for at in range(extent.offset, extent.offset + extent.length, 97):
            segment[at] ^= 4
            with pytest.raises(CorruptDataError):
                await desk.get(version)
            segment[at] ^= 4
        tiny = await desk.put(b"t", text_of(300), compress=True)
        for at in range(len(tiny.body.inline)):
            flipped = bytearray(tiny.body.inline)
            flipped[at] ^= 16
            with pytest.raises(CorruptDataError):
                await desk.get(damaged(tiny, inline=bytes(flipped)))

    run(test)


def test_upload_under_way_holds_some_chunks_and_not_the_body() -> None:
    class Sink(MemoryChunks):
        """Takes chunks and forgets them."""

        def put(self, data: bytes) -> Extent:
            return Extent(self._segment, 0, len(data), 0, blocks=True)

    class Endless(Pieces):
        def __init__(self, size: int) -> None:
            super().__init__(b"")
            self.length = self._left = size

        async def read(self) -> bytes:
            self._left -= 64 * KIB
            return random.randbytes(64 * KIB) if self._left >= 0 else b""

    async def test(desk: Desk) -> None:
        transform = await desk.transform(b"k", compress=True, encrypt=True)
        sink = Sink(desk.service.store)
        storage = Storage(desk.client, sink, UploadMemory())
        target = Target(desk.bucket, b"k", OWNER, Attributes(), WriteCondition(), transform)
        tracemalloc.start()
        try:
            await put_object(storage, target, Endless(64 * MIB))
            assert tracemalloc.get_traced_memory()[1] < 24 * MIB
        finally:
            tracemalloc.stop()

    run(test)


def test_pieces_of_a_coded_body_are_bounded() -> None:
    async def test(desk: Desk) -> None:
        version = await desk.put(b"k", text_of(5 * MIB), compress=True)
        body, reader = await open_body(
            version.body, desk.service.reader, desk.keys, body_context(desk.bucket.id, b"k")
        )
        sizes = [len(piece) async for piece in pieces_of(body, reader, 100, 5 * MIB - 100)]
        assert max(sizes) <= MIB
        assert sum(sizes) == 5 * MIB - 100

    run(test)
