"""Wrapping data keys anew: only envelopes change; a pass that is cut off leaves all readable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import apsw

from objectstore_app.atlas.rewrap import rewrap
from objectstore_app.core.ids import ShardId, UserId
from objectstore_app.iam.keyring import Keyring
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.metadata_service.api import (
    Attributes,
    Bucket,
    CreateBucket,
    DataMutation,
    MutationResult,
    ObjectVersion,
    OpenBucket,
    PutVersion,
)
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.inventory import coding_differences
from objectstore_app.metadata_service.memory import MemoryService, memory_service
from objectstore_app.object_controller.keychain import DEFAULT_KEY, KeyChain
from objectstore_app.object_controller.receive import Received, UploadMemory
from objectstore_app.object_controller.send import read_body
from objectstore_app.object_controller.transforms import (
    BodyCoder,
    Sealing,
    Transform,
    body_context,
    open_body,
)

OWNER = UserId("a" * 64)
MASTER_KEY = bytes(32)
OBJECTS = 30


class NoRest:
    async def rest(self) -> None:
        await asyncio.sleep(0)


class FolderWithKey:
    def master_key(self) -> bytes:
        return MASTER_KEY


@dataclass
class Bench:
    """What a pass needs of Atlas, over a service in memory; `fail_after` mutations the writer is
    gone.
    """

    service: MemoryService
    bucket: Bucket
    keys: KeyChain
    fail_after: int = 10**9
    damages: list[str] = field(default_factory=list)
    pace: NoRest = field(default_factory=NoRest)
    store: FolderWithKey = field(default_factory=FolderWithKey)

    @property
    def views(self) -> dict[ShardId, apsw.Connection]:
        client = self.service.client
        return {DIRECTORY_SHARD: client._directory, **client._data}

    @property
    def data_shards(self) -> tuple[ShardId, ...]:
        return (self.bucket.shard,)

    async def ask(self, shard: ShardId, mutations: Sequence[DataMutation]) -> list[MutationResult]:
        results = []
        for mutation in mutations:
            if self.fail_after == 0:
                raise UnavailableError("ask", str(shard))
            self.fail_after -= 1
            results.append(await self.service.client.mutate(self.bucket, mutation))
        return results

    def report_damage(self, where: str, what: str) -> None:
        self.damages.append(f"{where}: {what}")

    async def put(self, key: bytes, data: bytes) -> None:
        context = body_context(self.bucket.id, key)
        transform = Transform(False, Sealing(*await self.keys.active(DEFAULT_KEY), context))
        coder = BodyCoder(transform, self.service.chunks, UploadMemory())
        coded = await coder.finish(Received(len(data), data))
        await self.service.client.mutate(
            self.bucket,
            PutVersion(
                bucket=self.bucket.id, key=key, owner=OWNER, size=len(data), etag="e",
                data=coded.data, coding=coded.coding, attributes=Attributes(encryption="AES256"),
            ),
        )  # fmt: skip

    async def version(self, key: bytes) -> ObjectVersion:
        found = await self.service.client.lookup(self.bucket, key)
        assert found is not None
        return found

    async def check_all(self) -> None:
        fresh = KeyChain(self.service.client, Keyring(MASTER_KEY))
        for number in range(OBJECTS):
            key = b"k%d" % number
            version = await self.version(key)
            context = body_context(self.bucket.id, key)
            body, reader = await open_body(version.body, self.service.reader, fresh, context)
            assert await read_body(body, reader, 0, version.size) == key * (1 + 100 * number)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        service = memory_service()
        bucket = await service.client.mutate_directory(CreateBucket(name="bucket", owner=OWNER))
        assert isinstance(bucket, Bucket)
        await service.client.mutate(bucket, OpenBucket(bucket=bucket.id))
        bench = Bench(service, bucket, KeyChain(service.client, Keyring(MASTER_KEY)))
        for number in range(OBJECTS):
            await bench.put(b"k%d" % number, b"k%d" % number * (1 + 100 * number))
        await test(bench)

    asyncio.run(main())


def test_pass_moves_every_data_key_to_the_active_version() -> None:
    async def test(bench: Bench) -> None:
        first, _ = await bench.keys.active(DEFAULT_KEY)
        before = {number: (await bench.version(b"k%d" % number)).body for number in range(OBJECTS)}
        assert await bench.service.client.key_use() == {first: OBJECTS}
        await rewrap(bench)
        assert await bench.service.client.key_use() == {first: OBJECTS}
        await bench.keys.rotate(DEFAULT_KEY)
        second, _ = await bench.keys.active(DEFAULT_KEY)
        await rewrap(bench)
        assert await bench.service.client.key_use() == {second: OBJECTS}
        for number, body in before.items():
            after = (await bench.version(b"k%d" % number)).body
            assert (after.inline, after.extents) == (body.inline, body.extents)
        await bench.keys.retire(DEFAULT_KEY, first)
        await bench.check_all()
        assert list(coding_differences(bench.views[bench.bucket.shard])) == []
        assert bench.damages == []

    run(test)


def test_pass_cut_off_anywhere_leaves_all_readable_and_goes_on() -> None:
    async def test(bench: Bench) -> None:
        for survived in range(0, OBJECTS, 7):
            await bench.keys.rotate(DEFAULT_KEY)
            active, _ = await bench.keys.active(DEFAULT_KEY)
            bench.fail_after = survived
            with contextlib.suppress(UnavailableError):
                await rewrap(bench)
            assert (await bench.service.client.key_use()).get(active, 0) == survived
            bench.service = memory_service(store=bench.service.store)
            bench.keys = KeyChain(bench.service.client, Keyring(MASTER_KEY))
            await bench.check_all()
            bench.fail_after = 10**9
            await rewrap(bench)
            assert await bench.service.client.key_use() == {active: OBJECTS}
        await bench.check_all()

    run(test)


def test_counts_and_codings_that_are_wrong_are_told() -> None:
    async def test(bench: Bench) -> None:
        view = bench.views[bench.bucket.shard]
        assert list(coding_differences(view)) == []
        view.execute("UPDATE key_use SET bodies = bodies + 1")
        view.execute("UPDATE versions SET size = size + 1 WHERE key = CAST('k3' AS BLOB)")
        found = list(coding_differences(view))
        assert len(found) == 2
        assert "k3" in found[0]
        assert "data keys" in found[1]

    run(test)


def test_body_that_does_not_open_is_reported_and_holds_its_key() -> None:
    async def test(bench: Bench) -> None:
        first, _ = await bench.keys.active(DEFAULT_KEY)
        version = await bench.version(b"k3")
        await bench.service.client.mutate(
            bench.bucket,
            PutVersion(
                bucket=bench.bucket.id, key=b"stolen", owner=OWNER, size=version.size, etag="e",
                data=b"x" * 600, coding=version.body.coding,
            ),
        )  # fmt: skip
        await bench.keys.rotate(DEFAULT_KEY)
        await rewrap(bench)
        assert len(bench.damages) == 1
        assert "stolen" in bench.damages[0]
        assert (await bench.service.client.key_use())[first] == 1

    run(test)
