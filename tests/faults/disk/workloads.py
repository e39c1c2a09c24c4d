"""The workloads of the fault matrix (docs/durability.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .story import CHUNK, RECORD, SMALL, Story

B = "bucket"
Workload = Callable[[Story], Awaitable[None]]


async def put_small(story: Story) -> None:
    """Bodies that lie in the row, and empty ones."""
    await story.create_bucket(B)
    for number in range(6):
        await story.put(B, b"k%d" % number, SMALL * (number % 2))
        if number == 3:
            await story.checkpoint()


async def put_record(story: Story) -> None:
    """Bodies that lie in the log's records."""
    await story.create_bucket(B)
    for number in range(6):
        await story.put(B, b"k%d" % number, RECORD + number)
        if number == 3:
            await story.checkpoint()


async def put_chunk(story: Story) -> None:
    """Bodies that lie in chunk segments."""
    await story.create_bucket(B)
    for number in range(4):
        await story.put(B, b"k%d" % number, CHUNK + number)


async def overwrite(story: Story) -> None:
    """The same keys again, with bodies of every kind."""
    await story.create_bucket(B)
    for number in range(3):
        for size in (SMALL, RECORD, CHUNK, RECORD + 1):
            await story.put(B, b"k%d" % (number % 2), size)
        await story.checkpoint()


async def multipart(story: Story) -> None:
    """Uploads completed, aborted and left open; a part sent twice."""
    await story.create_bucket(B)
    await story.upload(B, b"done")
    await story.part(B, b"done", 1, CHUNK)
    await story.part(B, b"done", 2, RECORD)
    await story.part(B, b"done", 2, RECORD + 9)
    await story.upload(B, b"given up")
    await story.part(B, b"given up", 1, RECORD)
    await story.complete(B, b"done")
    await story.checkpoint()
    await story.upload(B, b"open")
    await story.part(B, b"open", 3, CHUNK + 1)
    await story.abort(B, b"given up")


async def delete(story: Story) -> None:
    await story.create_bucket(B)
    for size in (SMALL, RECORD, CHUNK):
        await story.put(B, b"k%d" % size, size)
    for size in (RECORD, SMALL, CHUNK):
        await story.delete(B, b"k%d" % size)
        await story.checkpoint()
    await story.put(B, b"k%d" % SMALL, RECORD)


async def delete_many(story: Story) -> None:
    """Many keys in one commit; each of them is whole or gone."""
    await story.create_bucket(B)
    for number in range(6):
        await story.put(B, b"k%d" % number, SMALL if number % 2 else RECORD)
    await story.delete(B, b"k0", b"k1", b"k2")
    await story.checkpoint()
    await story.delete(B, b"k5", b"k4", b"absent", b"k3")


async def copy(story: Story) -> None:
    await story.create_bucket(B)
    for size in (SMALL, RECORD, CHUNK):
        await story.put(B, b"source", size)
        await story.copy(B, b"source", b"copy of %d" % size)
        await story.copy(B, b"source", b"overwritten")


async def versioned(story: Story) -> None:
    """Versions, delete markers, null versions and versions removed."""
    await story.create_bucket(B)
    await story.put(B, b"k", SMALL)
    await story.set_versioning(B, "Enabled")
    await story.put(B, b"k", RECORD)
    await story.put(B, b"k", CHUNK)
    await story.delete(B, b"k")
    await story.checkpoint()
    await story.delete_version(B, b"k", 1)
    await story.set_versioning(B, "Suspended")
    await story.put(B, b"k", RECORD + 1)
    await story.delete_version(B, b"k", 1)
    await story.delete(B, b"k")


async def buckets(story: Story) -> None:
    """Made and removed; both halves of each, in two shards."""
    for name in ("one", "two", "three"):
        await story.create_bucket(name)
        await story.put(name, b"k", SMALL)
    await story.delete("two", b"k")
    await story.remove_bucket("two")
    await story.checkpoint()
    await story.create_bucket("two")


async def users(story: Story) -> None:
    for name in ("ada", "bob", "eve"):
        await story.add_user(name)
    await story.remove_user("bob")
    await story.checkpoint()
    await story.add_user("zoe")
    await story.remove_user("ada")


async def rolling(story: Story) -> None:
    """The log goes on to new segments, and the store is stopped and started in between."""
    await story.create_bucket(B)
    for number in range(8):
        await story.put(B, b"k%d" % (number % 5), RECORD)
        if number in (2, 5):
            await story.reopen()


async def spare(story: Story) -> None:
    """Each other segment was filled with zeros ahead: appends overwrite."""
    await story.create_bucket(B)
    for number in range(10):
        await story.put(B, b"k%d" % (number % 4), RECORD)
        await story.put(B, b"s%d" % (number % 4), SMALL)
        await story.spare()


async def bases(story: Story) -> None:
    """Copies of the view that stand for the log before them."""
    await story.create_bucket(B)
    for number in range(3):
        await story.put(B, b"k%d" % number, RECORD)
        await story.put(B, b"again", CHUNK)
        await story.base()
    await story.delete(B, b"k1")


async def moves(story: Story) -> None:
    """What compaction and garbage collection do to rows."""
    await story.create_bucket(B)
    for number in range(4):
        await story.put(B, b"k%d" % (number % 3), RECORD)
    await story.move(B, b"k1")
    await story.forget_garbage(B)
    await story.checkpoint()
    await story.move(B, b"k1")
    await story.put(B, b"k1", SMALL)
    await story.forget_garbage(B)


async def atlas(story: Story) -> None:
    """Everything Atlas does by itself: aborts, holes, bases, bodies moved, segments unlinked."""
    await story.create_bucket(B)
    for begin in (0, 5):
        for number in range(begin, begin + 5):
            await story.put(B, b"k%d" % (number % 4), RECORD + number)
            await story.put(B, b"c%d" % (number % 3), CHUNK + number)
        await story.upload(B, b"stale")
        await story.part(B, b"stale", 1, RECORD)
        await story.orphan()
        await story.delete(B, b"k%d" % (begin % 4), b"c0")
        await story.atlas()


async def keys(story: Story) -> None:
    """Keys of the store rotated, and the data keys of bodies wrapped anew."""
    await story.create_bucket(B)
    await story.add_key("first")
    await story.put_wrapped(B, b"row", SMALL, "first")
    await story.put_wrapped(B, b"record", RECORD, "first")
    await story.put_wrapped(B, b"chunk", CHUNK, "first")
    await story.rotate_key("first")
    await story.checkpoint()
    for key in (b"row", b"chunk", b"record"):
        await story.rewrap(B, key, "first")
    await story.put_wrapped(B, b"record", RECORD, "first")


WORKLOADS: dict[str, Workload] = {
    each.__name__: each
    for each in (
        put_small, put_record, put_chunk, overwrite, multipart, delete, delete_many, copy,
        versioned, buckets, users, rolling, spare, bases, moves, atlas, keys,
    )
}  # fmt: skip
