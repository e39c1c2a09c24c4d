"""A workload against the engine in this process, and what the store must hold at every moment.

Each change is noted with where in the recording it began and where it was acknowledged, and with
what the store holds once it is done. So for a power loss at any operation it is known what has to
be there, and what may be: the change under way whole, or not at all.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectstore_app.core.ids import ShardId, UserId
from objectstore_app.core.limits import (
    COMMIT_BYTES_MAX,
    KIB,
    LOG_SEGMENT_BYTES_MAX,
    RECORD_BODY_BYTES_MAX,
)
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import MediaFailedError, MediaFullError
from objectstore_app.media.local import LocalLog
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service import api
from objectstore_app.metadata_service.bases import make_base, restore_view
from objectstore_app.metadata_service.memory import MemoryClient
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.view import checkpoint
from objectstore_app.metadata_service.writer import complete_halves, now_ms
from tests.engine.support import OWNER

from .recorder import Recorder
from .upkeep import run_pass

MARKER = -1
DATA = ShardId(0)
SMALL, RECORD, CHUNK = 300, 3000, RECORD_BODY_BYTES_MAX + 5000
_PATTERN = random.Random(11).randbytes(256 * KIB)

State = dict[str, Any]


def body(number: int, size: int) -> bytes:
    """The bytes of a write; they say which it was."""
    mark = b"%08d" % number
    return (mark + _PATTERN[number * 7 % 1000 :])[:size] if size else b""


class Engine:
    """The shards of one folder, their chunks and their reads."""

    def __init__(
        self, folder: Path, *, segment_bytes_max: int = LOG_SEGMENT_BYTES_MAX, spare: bool = False
    ) -> None:
        """With `spare` the data shard's log fills its next segment with zeros ahead."""
        self.store: Store = open_store(folder)

        def opened(shard: ShardId) -> Shard:
            restore_view(self.store.shard(shard), self.store.view(shard))
            log = self.logs[shard] = LocalLog(
                self.store.shard(shard),
                shard,
                segment_bytes_max=segment_bytes_max,
                spare=spare and shard == DATA,
            )
            return Shard(shard, log, self.store.view(shard), data_shards=1, now_ms=now_ms)

        self.logs: dict[ShardId, LocalLog] = {}
        self.directory = opened(DIRECTORY_SHARD)
        self.data = opened(DATA)
        complete_halves({DIRECTORY_SHARD: self.directory, DATA: self.data})
        self.client = MemoryClient(self.directory, {DATA: self.data})
        self.chunks = LocalChunks(folder, now_ms)
        self.reader = LocalReader(folder)

    async def close(self) -> None:
        await self.chunks.close()
        self.reader.close()
        await self.client.close()

    async def renew_chunks(self) -> None:
        """From here on bodies go to another segment."""
        await self.chunks.close()
        self.chunks = LocalChunks(self.store.path, now_ms)

    async def read(self, held: api.Body) -> bytes:
        if not held.extents:
            return held.inline
        pieces = [await self.reader.read(one, 0, one.length) for one in held.extents]
        return b"".join(bytes(piece) for piece in pieces)


@dataclass(frozen=True)
class Step:
    """A change: operations from `begin` to `end` of the recording; `states` it goes through, the
    last of them acknowledged.
    """

    begin: int
    end: int
    states: tuple[State, ...]


class AbsentError(Exception):
    """What a verb works on is not there: an earlier change was refused."""


def verb(act: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A change that is left out when an earlier, refused one would have had to come first."""

    @functools.wraps(act)
    async def guarded(story: Story, *given: object) -> None:
        try:
            await act(story, *given)
        except AbsentError:
            if not story.refused:
                raise

    return guarded


@dataclass
class Story:
    """One workload under way. Its verbs are S3's, one change each."""

    engine: Engine | None
    recorder: Recorder
    segment_bytes_max: int = LOG_SEGMENT_BYTES_MAX
    state: State = field(default_factory=lambda: {"buckets": {}, "users": [], "keys": {}})
    steps: list[Step] = field(default_factory=list)
    refused: int = 0
    died: str = ""
    _number: int = 0
    _uploads: dict[tuple[str, bytes], str] = field(default_factory=dict)

    # --- what may be there ---

    def allowed(self, at: int) -> list[State]:
        """What the store may hold after a power loss behind the operation `at`."""
        held: State = {"buckets": {}, "users": [], "keys": {}}
        for step in self.steps:
            if step.end <= at:
                held = step.states[-1]
            elif step.begin <= at:
                return [held, *step.states]
        return [held]

    async def change(
        self, do: Callable[[], Awaitable[object]], *edits: Callable[[State], object]
    ) -> bool:
        """Do it and note it; false when it was refused for want of room, and nothing changed."""
        states, state = [], self.state
        for edit in edits:
            state = copy.deepcopy(state)
            try:
                edit(state)
            except (KeyError, ValueError, IndexError) as error:
                raise AbsentError(str(error)) from error
            states.append(state)
        begin = len(self.recorder.ops)
        self.steps.append(Step(begin, 1 << 60, tuple(states)))
        try:
            await do()
        except MediaFullError:
            self.steps.pop()
            self.refused += 1
            return False
        self.steps[-1] = Step(begin, len(self.recorder.ops), tuple(states))
        self.state = state
        return True

    # --- buckets and people ---

    async def bucket(self, name: str) -> api.Bucket:
        found = await self.engine.client.bucket(name)
        if found is None:
            raise AbsentError(f"bucket {name}")
        return found

    @verb
    async def create_bucket(self, name: str) -> None:
        empty = {"versioning": "", "keys": {}, "uploads": {}}
        client = self.engine.client

        async def make() -> None:
            await client.mutate_directory(api.CreateBucket(name=name, owner=OWNER))

        if await self.change(make, lambda state: state["buckets"].update({name: empty})):
            bucket = await self.bucket(name)
            await self.change(
                lambda: client.mutate(bucket, api.OpenBucket(bucket=bucket.id)), lambda _: None
            )

    @verb
    async def remove_bucket(self, name: str) -> None:
        bucket, client = await self.bucket(name), self.engine.client

        async def close() -> None:
            await client.mutate(bucket, api.CloseBucket(bucket=bucket.id))

        async def remove() -> None:
            await client.mutate_directory(api.RemoveBucket(id=bucket.id))

        # A bucket that is closed is deleted: where there is no room to say so in the directory, a
        # writer that starts does.
        if await self.change(close, lambda state: state["buckets"].pop(name)):
            await self.change(remove, lambda _: None)

    @verb
    async def set_versioning(self, name: str, value: str) -> None:
        bucket = await self.bucket(name)
        await self.change(
            lambda: self.engine.client.mutate(
                bucket, api.SetVersioning(bucket=bucket.id, state=value)
            ),
            lambda state: state["buckets"][name].update(versioning=value),
        )

    @verb
    async def add_user(self, name: str) -> None:
        key = api.AccessKey(access_key=f"KEY{name}", sealed_secret=b"s", created_ms=1)
        user = api.AddUser(id=UserId(name), email=f"{name}@example.test", name=name, keys=(key,))
        await self.change(
            lambda: self.engine.client.mutate_directory(user),
            lambda state: state["users"].append(name),
        )

    @verb
    async def remove_user(self, name: str) -> None:
        await self.change(
            lambda: self.engine.client.mutate_directory(api.RemoveUser(id=UserId(name))),
            lambda state: state["users"].remove(name),
        )

    # --- objects ---

    async def send(self, data: bytes) -> dict[str, Any]:
        """The fields of a mutation that carry a body; a large one is in flushed chunks."""
        if len(data) <= RECORD_BODY_BYTES_MAX:
            return {"data": data}
        extent = await self.engine.chunks.write(data)
        await self.engine.chunks.flush()
        return {"extents": (extent,)}

    @verb
    async def put(self, name: str, key: bytes, size: int) -> None:
        bucket, number = await self.bucket(name), self._take()
        data = body(number, size)

        async def write() -> None:
            put = api.PutVersion(
                bucket=bucket.id, key=key, owner=OWNER, size=size, etag=etag(data),
                attributes=numbered(number), **await self.send(data),
            )  # fmt: skip
            await self.engine.client.mutate(bucket, put)

        await self.change(write, lambda state: written(state, name, key, number))

    @verb
    async def copy(self, name: str, source: bytes, key: bytes) -> None:
        """Read one object and write its bytes to another key, as a copy does."""
        bucket = await self.bucket(name)
        found = await self.engine.client.lookup(bucket, source)
        if found is None:
            raise AbsentError(f"{source!r}")
        number = int(found.attributes.user["number"])
        data = await self.engine.read(found.body)

        async def write() -> None:
            put = api.PutVersion(
                bucket=bucket.id, key=key, owner=OWNER, size=len(data), etag=etag(data),
                attributes=numbered(number), **await self.send(data),
            )  # fmt: skip
            await self.engine.client.mutate(bucket, put)

        await self.change(write, lambda state: written(state, name, key, number))

    @verb
    async def delete(self, name: str, *keys: bytes) -> None:
        """One key, or many in one commit, as DeleteObjects does."""
        bucket = await self.bucket(name)
        deletes = [api.DeleteKey(bucket=bucket.id, key=key, owner=OWNER) for key in keys]

        async def delete() -> None:
            for outcome in self.engine.data.commit(deletes):
                if isinstance(outcome, Exception):
                    raise outcome

        def edit(key: bytes) -> Callable[[State], object]:
            return lambda state: deleted(state, name, key)

        await self.change(delete, *[edit(key) for key in keys])

    @verb
    async def delete_version(self, name: str, key: bytes, index: int) -> None:
        bucket = await self.bucket(name)
        version_ids = [version_id for held, version_id in names(self.engine, bucket) if held == key]
        if index >= len(version_ids):
            raise AbsentError(f"version {index} of {key!r}")
        request = api.DeleteVersion(bucket=bucket.id, key=key, version_id=version_ids[index])

        def edit(state: State) -> None:
            keys = state["buckets"][name]["keys"]
            del keys[key][index]
            if not keys[key]:
                del keys[key]

        await self.change(lambda: self.engine.client.mutate(bucket, request), edit)

    # --- uploads ---

    @verb
    async def upload(self, name: str, key: bytes) -> None:
        bucket = await self.bucket(name)

        async def create() -> None:
            made = await self.engine.client.mutate(
                bucket, api.CreateUpload(bucket=bucket.id, key=key, owner=OWNER)
            )
            assert isinstance(made, api.Upload)
            self._uploads[name, key] = made.upload_id

        await self.change(create, lambda state: uploads(state, name).update({key: {}}))

    @verb
    async def part(self, name: str, key: bytes, part: int, size: int) -> None:
        bucket, number = await self.bucket(name), self._take()
        data = body(number, size)

        async def write() -> None:
            request = api.PutPart(
                bucket=bucket.id, key=key, upload_id=self._upload_id(name, key), number=part,
                size=size, etag=f"{number}", **await self.send(data),
            )  # fmt: skip
            await self.engine.client.mutate(bucket, request)

        await self.change(write, lambda state: uploads(state, name)[key].update({part: number}))

    @verb
    async def complete(self, name: str, key: bytes) -> None:
        bucket = await self.bucket(name)
        parts = dict(sorted(uploads(self.state, name).get(key, {}).items()))
        if not parts:
            raise AbsentError(f"parts of {key!r}")
        text = " ".join(map(str, parts.values()))
        request = api.CompleteUpload(
            bucket=bucket.id, key=key, upload_id=self._upload_id(name, key), etag=text,
            parts=tuple(api.CompletedPart(part, f"{number}") for part, number in parts.items()),
            attributes=numbered(*parts.values()),
        )  # fmt: skip

        def edit(state: State) -> None:
            del uploads(state, name)[key]
            written(state, name, key, *parts.values())

        await self.change(lambda: self.engine.client.mutate(bucket, request), edit)

    @verb
    async def abort(self, name: str, key: bytes) -> None:
        bucket = await self.bucket(name)
        request = api.AbortUpload(bucket=bucket.id, key=key, upload_id=self._upload_id(name, key))
        await self.change(
            lambda: self.engine.client.mutate(bucket, request),
            lambda state: uploads(state, name).pop(key),
        )

    # --- keys of the store, and bodies whose data keys they wrap ---

    @verb
    async def add_key(self, name: str) -> None:
        await self.change(
            lambda: self.engine.client.mutate_directory(api.AddStoreKey(name=name, sealed=b"1")),
            lambda state: state["keys"].update({name: 1}),
        )

    @verb
    async def rotate_key(self, name: str) -> None:
        await self.change(
            lambda: self.engine.client.mutate_directory(api.RotateStoreKey(name=name, sealed=b"2")),
            lambda state: state["keys"].update({name: state["keys"][name] + 1}),
        )

    @verb
    async def put_wrapped(self, name: str, key: bytes, size: int, key_name: str) -> None:
        """The engine keeps what wraps a body's data key, whatever the bytes are."""
        bucket, number = await self.bucket(name), self._take()
        data, version = body(number, size), await self._key_version(key_name)

        async def write() -> None:
            put = api.PutVersion(
                bucket=bucket.id, key=key, owner=OWNER, size=size, etag=etag(data),
                attributes=numbered(number), **await self.send(data),
                coding=(api.Coding((size,), 0, version, b"wrapped by %d" % version),),
            )  # fmt: skip
            await self.engine.client.mutate(bucket, put)

        await self.change(write, lambda state: written(state, name, key, number))

    @verb
    async def rewrap(self, name: str, key: bytes, key_name: str) -> None:
        bucket, version = await self.bucket(name), await self._key_version(key_name)
        found = await self.engine.client.lookup(bucket, key)
        if found is None:
            raise AbsentError(f"{key!r}")
        (old,) = found.body.coding
        wraps = (api.Rewrapped(old.wrapped, version, b"wrapped by %d" % version),)
        request = api.RewrapVersion(bucket=bucket.id, key=key, order=found.order, wraps=wraps)
        await self.change(lambda: self.engine.client.mutate(bucket, request), lambda _: None)

    async def _key_version(self, name: str) -> int:
        for key in await self.engine.client.store_keys():
            if key.name == name:
                return key.versions[-1].id
        raise AbsentError(f"key {name}")

    # --- what changes nothing that clients see ---

    @verb
    async def move(self, name: str, key: bytes) -> None:
        """Write a body anew and name it there, as compaction does."""
        bucket = await self.bucket(name)
        found = await self.engine.client.lookup(bucket, key)
        if found is None:
            raise AbsentError(f"{key!r}")
        (old,) = found.body.extents
        data = await self.engine.read(found.body)
        request = api.MoveVersionBody(
            bucket=bucket.id, key=key, order=found.order, old=old, data=data
        )
        await self.change(lambda: self.engine.client.mutate(bucket, request), lambda _: None)

    @verb
    async def forget_garbage(self, name: str) -> None:
        bucket = await self.bucket(name)
        for (segment,) in self.engine.data.view.execute("SELECT segment FROM garbage").fetchall():
            request = api.ForgetGarbage(segment=segment, start=0, end=1 << 40, freed_ms=now_ms())
            await self.change(
                functools.partial(self.engine.client.mutate, bucket, request), lambda _: None
            )

    @verb
    async def orphan(self) -> None:
        """A body whose client went away before it was named."""
        await self.change(lambda: self.send(body(self._take(), CHUNK)), lambda _: None)

    @verb
    async def atlas(self) -> None:
        """Every pass of Atlas; open uploads are old enough to be aborted."""

        async def passes(*names: str) -> None:
            for name in names:
                stopped_by = await run_pass(self.engine.store, self.engine.data, name)
                if stopped_by and self.recorder.fault is not None:
                    full = self.recorder.fault.kind == "enospc"
                    raise (MediaFullError if full else MediaFailedError)("atlas", name, stopped_by)
                assert not stopped_by, stopped_by

        def abort(state: State) -> None:
            for held in state["buckets"].values():
                held["uploads"].clear()

        await self.engine.renew_chunks()
        # A pass may find no room once it is done, to note that: the next one knows nothing of it.
        while not await self.change(lambda: passes("uploads"), abort):
            pass
        await self.change(lambda: passes("gc", "compact", "orphans", "scrub"), lambda _: None)

    async def spare(self) -> None:
        """Wait until the next segment is filled with zeros, or given up."""
        thread = self.engine.logs[DATA]._spare._thread
        if thread is not None:
            thread.join()

    async def checkpoint(self) -> None:
        checkpoint(self.engine.data.view)
        checkpoint(self.engine.directory.view)

    async def reopen(self) -> None:
        folder = self.engine.store.path
        await self.engine.close()
        self.engine = Engine(folder, segment_bytes_max=self.segment_bytes_max)

    async def base(self) -> None:
        for _ in make_base(self.engine.data.view, self.engine.store.shard(DATA), now_ms()):
            await asyncio.sleep(0)

    def _upload_id(self, name: str, key: bytes) -> str:
        found = self._uploads.get((name, key))
        if found is None:
            raise AbsentError(f"upload of {key!r}")
        return found

    def _take(self) -> int:
        self._number += 1
        return self._number


def etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def numbered(*numbers: int) -> api.Attributes:
    return api.Attributes(user={"number": " ".join(map(str, numbers))})


def uploads(state: State, bucket: str) -> dict[bytes, dict[int, int]]:
    found: dict[bytes, dict[int, int]] = state["buckets"][bucket]["uploads"]
    return found


def written(state: State, bucket: str, key: bytes, *numbers: int) -> None:
    """What a new version does to a key: versions newest first, as (numbers, is the null one)."""
    held = state["buckets"][bucket]
    null = held["versioning"] != "Enabled"
    kept = [one for one in held["keys"].get(key, []) if not (null and one[1])]
    held["keys"][key] = [(numbers, null), *kept]


def deleted(state: State, bucket: str, key: bytes) -> None:
    held = state["buckets"][bucket]
    if held["versioning"]:
        written(state, bucket, key, MARKER)
    else:
        held["keys"].pop(key, None)


async def observe(engine: Engine) -> State:
    """What a store holds, every byte compared with what was written."""
    client = engine.client
    found: State = {"buckets": {}, "users": [], "keys": {}}
    for bucket in await client.buckets(OWNER):
        state = await client.state(bucket)
        held: State = {"versioning": state.versioning, "keys": {}, "uploads": {}}
        for key, version_id in names(engine, bucket):
            entry = await _version(engine, bucket, key, version_id)
            held["keys"].setdefault(key, []).append(entry)
        for upload in (await client.list_uploads(bucket)).entries:
            assert not isinstance(upload, bytes)
            held["uploads"][upload.key] = {
                part.number: await _part(engine, part)
                for part in await client.parts(bucket, upload.upload_id)
            }
        found["buckets"][bucket.name] = held
    found["users"] = sorted(str(user.id) for user in await client.users())
    found["keys"] = {key.name: len(key.versions) for key in await client.store_keys()}
    return found


def names(engine: Engine, bucket: api.Bucket) -> list[tuple[bytes, str]]:
    """Key and version id of every version, newest first."""
    sql = "SELECT key, version_id FROM versions WHERE bucket=? ORDER BY key, ord"
    return [(key, version_id) for key, version_id in engine.data.view.execute(sql, (bucket.id,))]


async def _version(
    engine: Engine, bucket: api.Bucket, key: bytes, version_id: str
) -> tuple[tuple[int, ...], bool]:
    version = await engine.client.lookup(bucket, key, version_id)
    assert version is not None, f"{key!r} {version_id} is listed and cannot be read"
    if version.delete_marker:
        return (MARKER,), version_id == "null"
    numbers = tuple(map(int, version.attributes.user["number"].split()))
    data = await engine.read(version.body)
    assert len(data) == version.size
    for data_of in _bodies(numbers, data):
        assert data_of, f"{key!r} {version_id} is torn"
    return numbers, version_id == "null"


def _bodies(numbers: tuple[int, ...], data: bytes) -> Iterator[bool]:
    """Whether the data is that of the writes with these numbers, one after another."""
    if len(numbers) == 1:
        yield data == body(numbers[0], len(data))
        return
    starts = [data.find(b"%08d" % number) for number in numbers]
    for number, start, end in zip(numbers, starts, [*starts[1:], len(data)], strict=True):
        yield start >= 0 and data[start:end] == body(number, end - start)


async def _part(engine: Engine, part: api.Part) -> int:
    data = await engine.read(part.body)
    assert data == body(int(part.etag), part.size), f"part {part.number} is torn"
    return int(part.etag)


ROLLING_BYTES = COMMIT_BYTES_MAX + 8 * KIB
