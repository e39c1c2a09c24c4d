"""Routers and gateways while shards come and go: nothing acknowledged is lost, no read is stale,
and nobody waits without a bound.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import apsw
import msgspec
import pytest

from objectstore_app.config.shard_map import ShardOwner
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.limits import RECORD_BODY_BYTES_MAX
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import MediaFailedError
from objectstore_app.media.segments import DIRECTORY_SHARD, shard_folder
from objectstore_app.metadata_service import calls
from objectstore_app.metadata_service import link as linking
from objectstore_app.metadata_service import router as routing
from objectstore_app.metadata_service.api import (
    AccessKey,
    AddUser,
    Bucket,
    OpenBucket,
    RemoveUser,
    SetBucketAcl,
    SetVersioning,
)
from objectstore_app.metadata_service.bodies import BodyCache
from objectstore_app.metadata_service.errors import (
    NotOwnerError,
    UnavailableError,
    UnsentError,
)
from objectstore_app.metadata_service.pod_talk import Mode, Release
from objectstore_app.metadata_service.router import Router
from tests.engine.authorities import context
from tests.engine.client_story import a_buckets_life, a_persons_life, new_bucket, version
from tests.engine.gateways import DATA_SHARD, GatewayPods
from tests.engine.support import OWNER

Scenario = Callable[[GatewayPods, Router], Awaitable[None]]


def in_pods(tmp_path: Path, tls: Path, scenario: Scenario, count: int = 2) -> None:
    async def run() -> None:
        server, client = context(tls, server=True), context(tls, server=False)
        pods = GatewayPods(tmp_path, count, server, client)
        await pods.start()
        router = pods.router()
        await scenario(pods, router)
        await router.close()
        await pods.stop()

    asyncio.run(run())


async def body(router: Router, bucket: Bucket, key: bytes) -> bytes | None:
    found = await router.lookup(bucket, key, body_bytes_max=RECORD_BODY_BYTES_MAX)
    return None if found is None else found.body.inline


def test_every_operation_goes_to_its_shards_owner(tmp_path: Path, tls: Path) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        await pods.move(DATA_SHARD, pods.pods[1])
        await a_buckets_life(router)
        await a_persons_life(router)
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"body"))
        assert await router.total_usage() == (1, (await router.state(bucket)).usage)

    in_pods(tmp_path, tls, scenario)


def test_small_body_comes_along_with_its_version(tmp_path: Path, tls: Path) -> None:
    async def scenario(_: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        bodies = {b"empty": b"", b"row": b"x" * 100, b"record": b"y" * RECORD_BODY_BYTES_MAX}
        for key, data in bodies.items():
            await router.mutate(bucket, version(bucket, key, data))
        for key, data in (*bodies.items(), *bodies.items()):  # read, and kept
            assert await body(router, bucket, key) == data
        found = await router.lookup(bucket, b"record", body_bytes_max=1000)
        assert found is not None
        assert (found.body.inline, len(found.body.extents)) == (b"", 1)
        assert await body(router, bucket, b"absent") is None

    in_pods(tmp_path, tls, scenario)


def test_bodies_are_kept_within_a_bound_those_used_last() -> None:
    class Reader:
        read_places: ClassVar[list[int]] = []

        async def read(self, extent: Extent, start: int, length: int) -> bytes:
            self.read_places.append(extent.offset)
            return bytes(length)

    async def run() -> None:
        cache = BodyCache(Reader(), bytes_max=3 * 1200)
        extents = [Extent(1, offset, 1000, 0) for offset in range(4)]
        for extent in extents[:3]:
            assert cache.kept(extent) is None
            assert await cache.read(extent) == bytes(1000)
        assert cache.kept(extents[0]) == bytes(1000)
        await cache.read(extents[3])
        assert [cache.kept(extent) is not None for extent in extents] == [True, False, True, True]
        await asyncio.gather(cache.read(extents[1]), cache.read(extents[1]))
        assert [cache.kept(extent) is not None for extent in extents] == [False, True, True, True]

    asyncio.run(run())


def test_mirrored_bodies_are_not_kept_twice() -> None:
    class Reader:
        async def read(self, extent: Extent, start: int, length: int) -> bytes:
            raise AssertionError("it is at hand")

    cache = BodyCache(Reader(), lambda extent: b"mirrored" if extent.offset < 100 else None)
    assert cache.kept(Extent(1, 64, 8, 0)) == b"mirrored"
    assert cache.kept(Extent(1, 100, 8, 0)) is None


def test_change_of_the_directory_is_seen_by_every_router_also_after_it_moved(
    tmp_path: Path, tls: Path
) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        other = pods.router()
        bucket = await new_bucket(router)
        key = AccessKey(access_key="AK", sealed_secret=b"s", created_ms=1)
        await router.mutate_directory(AddUser(id=OWNER, email="a@b", name="A", keys=(key,)))
        assert await other.user_of_key("AK") is not None
        for number in range(12):
            if number % 3 == 2:
                await pods.move(DIRECTORY_SHARD, pods.pods[number % 2])
            acl = ("private", "public-read")[number % 2]
            await router.mutate_directory(SetBucketAcl(id=bucket.id, acl=acl))
            for one in (router, other):
                seen = await asyncio.gather(*(one.bucket("bucket") for _ in range(3)))
                assert {held.acl for held in seen if held} == {acl}
        await other.mutate_directory(RemoveUser(id=OWNER))
        assert await router.user_of_key("AK") is None
        await other.close()

    in_pods(tmp_path, tls, scenario)


def test_gateway_that_lost_a_shard_unawares_answers_no_read(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an owner does that was paused while another pod took its shard."""
    monkeypatch.setattr(routing, "ROUTE_WAIT_S_MAX", 0.3)
    monkeypatch.setattr(routing, "MUTATION_WAIT_S_MAX", 0.3)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"old"))
        await pods.take(DATA_SHARD, pods.pods[1], told=False)
        for _ in range(2):  # the second time it is known
            with pytest.raises(NotOwnerError):
                await body(router, bucket, b"k")
        with pytest.raises(NotOwnerError):
            await router.mutate(bucket, version(bucket, b"k", b"lost"))
        waiting = asyncio.ensure_future(router.mutate(bucket, version(bucket, b"k", b"new")))
        reading = asyncio.ensure_future(body(router, bucket, b"k"))
        await asyncio.sleep(0.05)
        pods.tell()
        await waiting
        assert await reading in (b"old", b"new")
        assert await body(router, bucket, b"k") == b"new"

    in_pods(tmp_path, tls, scenario)


def test_look_ups_of_one_turn_share_a_confirmation_that_began_after_them(
    tmp_path: Path, tls: Path
) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"1"))
        media = pods.media
        before = media.asked
        assert await asyncio.gather(*(body(router, bucket, b"k") for _ in range(20))) == [b"1"] * 20
        assert media.asked == before + 1
        media.gate.clear()
        early = asyncio.ensure_future(body(router, bucket, b"k"))
        await asyncio.sleep(0.05)
        late = asyncio.ensure_future(body(router, bucket, b"k"))
        await asyncio.sleep(0.05)
        assert not early.done()  # nothing is said before it is confirmed
        assert media.asked == before + 2
        media.gate.set()
        assert await asyncio.gather(early, late) == [b"1", b"1"]
        assert media.asked == before + 3  # what came while it was asked is asked about anew

    in_pods(tmp_path, tls, scenario)


def test_view_that_was_replaced_is_opened_anew(tmp_path: Path, tls: Path) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"1"))
        assert await body(router, bucket, b"k") == b"1"
        first, second = pods.pods
        await pods.move(DATA_SHARD, second)
        await router.mutate(bucket, version(bucket, b"k", b"2"))
        await first.restart_without_views()
        await pods.move(DATA_SHARD, first)
        assert await body(router, bucket, b"k") == b"2"

    in_pods(tmp_path, tls, scenario)


def test_gateway_that_ends_answers_what_is_under_way(tmp_path: Path, tls: Path) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"1"))
        pods.media.gate.clear()
        reading = asyncio.ensure_future(body(router, bucket, b"k"))
        await asyncio.sleep(0.05)
        ending = asyncio.ensure_future(pods.pods[0].stop_gateway())
        await asyncio.sleep(0.05)
        assert not ending.done()
        pods.media.gate.set()
        assert await reading == b"1"
        await ending

    in_pods(tmp_path, tls, scenario)


def test_damaged_view_fails_the_read_that_meets_it_and_no_other_call(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(_: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)

        def fail(*_: object) -> None:
            raise apsw.CorruptError("database disk image is malformed")

        monkeypatch.setitem(calls.READS, "state", replace(calls.READS["state"], run=fail))
        reading = [router.state(bucket), router.users()]
        failed, people = await asyncio.gather(*reading, return_exceptions=True)
        assert isinstance(failed, MediaFailedError)
        assert people == []

    in_pods(tmp_path, tls, scenario)


def test_call_waits_for_an_owner_a_bounded_time_and_says_that_nothing_was_decided(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "ROUTE_WAIT_S_MAX", 0.4)
    monkeypatch.setattr(routing, "MUTATION_WAIT_S_MAX", 0.4)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        nobody = pods.router(tmp_path / "no-map")
        for call in (nobody.state(bucket), nobody.bucket("bucket")):
            begun = time.monotonic()
            with pytest.raises(NotOwnerError):
                await call
            assert 0.3 < time.monotonic() - begun < 2
        await nobody.close()
        await pods.pods[0].kill()
        for call in (router.state(bucket), router.mutate(bucket, version(bucket, b"k"))):
            with pytest.raises(UnsentError):
                await call
        outcomes = await router.mutate_all(bucket, [version(bucket, b"k")] * 3)
        assert [type(one) for one in outcomes] == [UnsentError] * 3

    in_pods(tmp_path, tls, scenario)


def test_mutation_waits_for_an_owner_when_a_read_would_have_been_sent_elsewhere(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "ROUTE_WAIT_S_MAX", 0.2)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        known, nowhere = pods.map, ShardOwner(address="127.0.0.1:1", epoch=1000, pod="")
        pods.map = pods.map.with_owner(shard_folder(DATA_SHARD), nowhere)
        pods.tell()
        await router.owners.change(5)
        writing = asyncio.ensure_future(router.mutate(bucket, version(bucket, b"k", b"1")))
        with pytest.raises(UnsentError):
            await router.state(bucket)
        assert not writing.done()
        back = msgspec.structs.replace(known.shards[shard_folder(DATA_SHARD)], epoch=1001)
        pods.map = pods.map.with_owner(shard_folder(DATA_SHARD), back)
        pods.tell()
        await writing
        assert await body(router, bucket, b"k") == b"1"

    in_pods(tmp_path, tls, scenario)


def test_calls_to_a_silent_gateway_end_soon_after_another_pod_has_the_shard(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "GIVE_UP_S", 0.2)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, version(bucket, b"k", b"1"))
        async with SilentServer(context(tls, server=True)) as address:
            pods.map = pods.map.with_owner(shard_folder(DATA_SHARD), silent(address))
            pods.tell()
            await router.owners.change(5)
            reading = asyncio.ensure_future(body(router, bucket, b"k"))
            writing = asyncio.ensure_future(router.mutate(bucket, version(bucket, b"k", b"2")))
            opening = asyncio.ensure_future(router.mutate(bucket, OpenBucket(bucket=bucket.id)))
            await asyncio.sleep(0.1)
            begun = time.monotonic()
            owner = ShardOwner(address=pods.pods[0].address, epoch=1001, pod="pod-0")
            pods.map = pods.map.with_owner(shard_folder(DATA_SHARD), owner)
            pods.tell()
            assert await reading == b"1"
            await opening  # it is answered alike when it is decided twice
            with pytest.raises(UnavailableError, match="outcome is unknown"):
                await writing
            assert time.monotonic() - begun < 2
            assert router.owners.addresses() == {pods.pods[0].address}
        assert await body(router, bucket, b"k") == b"1"

    in_pods(tmp_path, tls, scenario)


def test_call_to_a_silent_gateway_ends_in_time_though_nobody_else_has_the_shard(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "ROUTE_WAIT_S_MAX", 0.5)
    monkeypatch.setattr(routing, "MUTATION_WAIT_S_MAX", 0.5)
    monkeypatch.setattr(routing, "CALL_S_MAX", 1.0)
    monkeypatch.setattr(linking, "WATCH_S", 0.05)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        async with SilentServer(context(tls, server=True)) as address:
            pods.map = pods.map.with_owner(shard_folder(DATA_SHARD), silent(address))
            pods.tell()
            await router.owners.change(5)
            begun = time.monotonic()
            reading = asyncio.ensure_future(router.state(bucket))
            batch = asyncio.ensure_future(router.mutate_all(bucket, [version(bucket, b"k")] * 2))
            with pytest.raises(UnavailableError, match="in time"):
                await router.mutate(bucket, version(bucket, b"k"))
            with pytest.raises(UnavailableError, match="in time"):
                await reading
            assert [type(one) for one in await batch] == [UnavailableError] * 2
            assert time.monotonic() - begun < 3

    in_pods(tmp_path, tls, scenario)


def test_calls_of_a_shard_have_their_time_though_another_one_left_the_gateway_before(
    tmp_path: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "GIVE_UP_S", 1.0)

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        before = pods.map
        async with SilentServer(context(tls, server=True)) as address:
            for shard in (DATA_SHARD, DIRECTORY_SHARD):
                pods.map = pods.map.with_owner(shard_folder(shard), silent(address))
            pods.tell()
            await router.owners.change(5)
            writing = asyncio.ensure_future(router.mutate(bucket, version(bucket, b"k")))
            await asyncio.sleep(0.1)
            for shard in (DIRECTORY_SHARD, DATA_SHARD):
                moved = time.monotonic()
                owner = before.shards[shard_folder(shard)]
                owner = msgspec.structs.replace(owner, epoch=1001)
                pods.map = pods.map.with_owner(shard_folder(shard), owner)
                pods.tell()
                await router.owners.change(5)
                await asyncio.sleep(0.5)
            with pytest.raises(UnavailableError, match="another pod has the shard"):
                await writing
            assert time.monotonic() - moved > 0.9
            assert list(router._links) == [pods.pods[0].address]

    in_pods(tmp_path, tls, scenario)


def silent(address: str) -> ShardOwner:
    return ShardOwner(address=address, epoch=1000, pod="silent")


class SilentServer:
    """Takes connections and calls, and answers none."""

    def __init__(self, tls) -> None:
        self._tls = tls

    async def __aenter__(self) -> str:
        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        self._server = await asyncio.start_server(ignore, "127.0.0.1", 0, ssl=self._tls)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_and_no_read_is_stale_while_shards_move(
    tmp_path: Path, tls: Path, seed: int
) -> None:
    """Both shards move between three pods, in good order or not; writers read what they wrote."""

    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await router.mutate(bucket, SetVersioning(bucket=bucket.id, state="Enabled"))
        rng, done = random.Random(seed), asyncio.Event()
        routers = [pods.router() for _ in range(3)]
        tally = {"acknowledged": 0, "unknown": 0, "other": 0}

        async def write(number: int) -> None:
            key, last, mine = b"key-%d" % number, 0, routers[number % 3]
            for value in range(1, 10_000):
                if done.is_set():
                    return
                begun = time.monotonic()
                try:
                    await mine.mutate(bucket, version(bucket, key, b"%d" % value))
                    last = value
                    tally["acknowledged"] += 1
                except UnavailableError as error:
                    tally["unknown" if "unknown" in str(error) else "other"] += 1
                assert await mine.bucket("bucket") == bucket
                found = await body(rng.choice(routers), bucket, key)
                assert last <= int(found or b"0") <= value
                assert time.monotonic() - begun < 5

        writers = [asyncio.ensure_future(write(number)) for number in range(6)]
        for _ in range(25):
            shard, pod = rng.choice((DATA_SHARD, DIRECTORY_SHARD)), rng.choice(pods.pods)
            if pods.owner[shard] is pod:
                continue
            if rng.random() < 0.5:
                await pods.move(shard, pod)
            else:
                await pods.take(shard, pod, told=False)
                await asyncio.sleep(rng.random() / 20)
                pods.tell()
            await asyncio.sleep(rng.random() / 20)
        done.set()
        await asyncio.gather(*writers)
        assert tally["acknowledged"] > len(writers)
        assert tally["other"] == 0
        for one in routers:
            await one.close()

    in_pods(tmp_path, tls, scenario, count=3)


def test_batch_is_decided_in_its_order_while_its_shard_moves(tmp_path: Path, tls: Path) -> None:
    async def scenario(pods: GatewayPods, router: Router) -> None:
        bucket = await new_bucket(router)
        await pods.pods[0].becomes(DATA_SHARD, Mode.OWNING)
        pods.pods[0].order(DATA_SHARD, Release())
        await pods.pods[0].becomes(DATA_SHARD, Mode.RELEASED)
        batch = [version(bucket, b"k", b"%d" % number) for number in range(40)]
        waiting = asyncio.ensure_future(router.mutate_all(bucket, batch))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await pods.take(DATA_SHARD, pods.pods[1])
        assert not any(isinstance(one, ObjectStoreError) for one in await waiting)
        assert await body(router, bucket, b"k") == b"39"

    in_pods(tmp_path, tls, scenario)
