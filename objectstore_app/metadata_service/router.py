"""The metadata client of a front end in a deployment: every call goes to its shard's owner.

Theory of operation. The shard map says which gateway to ask (`owners.py`); there is one connection
to each. Where that does not come to a decision (NotOwnerError, nothing could be sent, another owner
has the shard by now), the router looks again for a while after the call began, and then says so:
nothing was decided. For ROUTE_WAIT_S_MAX with a read, which takes no longer than that in all, for
an entry repeats it elsewhere; for MUTATION_WAIT_S_MAX with a mutation, which nobody repeats but the
client, and which takes no longer than CALL_S_MAX, since its owner may wait for the medium. That
holds whatever the reason, a peer that is silent among them. Of what was sent, and whose answer is
lost, reads and the REPEATABLE mutations are sent again; any other mutation fails with
UnavailableError, for its outcome is unknown.

Buckets and people are cached exactly (`cache.py`): each look-up asks the directory's owner for the
generation. Look-ups that begin in the same turn of the loop share one question, never one that was
asked before they began.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import cast

import msgspec

from ..config.shard_map import MapFile
from ..core.errors import ObjectStoreError
from ..core.ids import ShardId, UserId
from ..core.limits import (
    CALL_S_MAX,
    MUTATION_WAIT_S_MAX,
    PAGE_KEYS_MAX,
    PART_NUMBER_MAX,
    ROUTE_WAIT_S_MAX,
)
from ..media.segments import DIRECTORY_SHARD, shard_folder
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    BucketUsage,
    DataMutation,
    DirectoryMutation,
    MutationResult,
    ObjectsPage,
    ObjectVersion,
    Part,
    StoreKey,
    Upload,
    UploadsPage,
    Usage,
    User,
    VersionsPage,
)
from .cache import DirectoryCache
from .calls import GENERATION, LOOKUP, MUTATE, READS, REPEATABLE
from .errors import NotOwnerError, UnavailableError, UnsentError
from .gateway_link import GatewayLink
from .machine import Mutation
from .owners import Owners
from .reads import add_usage
from .wire import result_of

GIVE_UP_S = 1.0
PAUSE_S_MIN = 0.02
PAUSE_S_MAX = 0.1

_decode_generation = msgspec.msgpack.Decoder(int).decode


class Router:
    """MetadataClient over the gateways of a store. Belongs to one loop."""

    def __init__(self, file: MapFile, data_shards: int, context: ssl.SSLContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._data_shards = [ShardId(number) for number in range(data_shards)]
        shards = (DIRECTORY_SHARD, *self._data_shards)
        self._numbers = {shard_folder(shard): shard for shard in shards}
        self._links: dict[str, GatewayLink] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._cache = DirectoryCache()
        self._question: asyncio.Task[int] | None = None
        self.owners = Owners(file, self._moved)

    # --- the directory ---

    async def generation(self) -> int:
        """The directory's, as its owner told it after this was called."""
        question = self._question
        if question is None:
            question = self._question = self._loop.create_task(self._ask_generation())
            question.add_done_callback(_seen)
        return await asyncio.shield(question)

    async def bucket(self, name: str) -> Bucket | None:
        return await self._bucket(await self.generation(), name)

    async def user_of_key(self, access_key: str) -> tuple[User, AccessKey] | None:
        return await self._user_of_key(await self.generation(), access_key)

    async def user_and_bucket(
        self, access_key: str, bucket: str
    ) -> tuple[tuple[User, AccessKey] | None, Bucket | None]:
        generation = await self.generation()
        user = await self._user_of_key(generation, access_key)
        return user, await self._bucket(generation, bucket) if bucket else None

    async def store_keys(self) -> Sequence[StoreKey]:
        generation = await self.generation()
        cache = self._cache
        cache.enter(generation)
        if cache.store_keys is not None:
            return cache.store_keys
        found = cast("list[StoreKey]", await self._read(DIRECTORY_SHARD, "store_keys"))
        if cache.holds(generation):
            cache.store_keys = found
        return found

    async def buckets(self, owner: UserId) -> Sequence[Bucket]:
        return cast("list[Bucket]", await self._read(DIRECTORY_SHARD, "buckets", owner))

    async def users(self) -> Sequence[User]:
        return cast("list[User]", await self._read(DIRECTORY_SHARD, "users"))

    async def usage(self, after: str, limit: int) -> Sequence[BucketUsage]:
        answer = await self._read(DIRECTORY_SHARD, "buckets_after", after, limit)
        buckets = cast("list[Bucket]", answer)
        states = await asyncio.gather(*(self.state(bucket) for bucket in buckets))
        return [
            BucketUsage(name=bucket.name, owner=bucket.owner, usage=state.usage)
            for bucket, state in zip(buckets, states, strict=True)
        ]

    async def mutate_directory(self, mutation: DirectoryMutation) -> MutationResult:
        return await self._mutate(DIRECTORY_SHARD, mutation)

    # --- data shards ---

    async def key_use(self) -> dict[int, int]:
        total: dict[int, int] = {}
        for shard in self._data_shards:
            held = cast("dict[int, int]", await self._read(shard, "key_use"))
            for key, bodies in held.items():
                total[key] = total.get(key, 0) + bodies
        return total

    async def total_usage(self) -> tuple[int, Usage]:
        """The number of buckets, and what all of them hold."""
        reading = [self._read(shard, "total_usage") for shard in self._data_shards]
        return add_usage(cast("list[tuple[int, Usage]]", await asyncio.gather(*reading)))

    async def state(self, bucket: Bucket) -> BucketState:
        return cast("BucketState", await self._read(bucket.shard, "state", bucket.id))

    async def lookup(
        self, bucket: Bucket, key: bytes, version_id: str = "", *, body_bytes_max: int = 0
    ) -> ObjectVersion | None:
        answer = await self._read(bucket.shard, LOOKUP, bucket.id, key, version_id, body_bytes_max)
        return cast("ObjectVersion | None", answer)

    async def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after: bytes = b"",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
        owners: bool = False,
    ) -> ObjectsPage:
        answer = await self._read(
            bucket.shard, "list_objects", bucket.id, prefix, after, delimiter, limit, owners
        )
        return cast("ObjectsPage", answer)

    async def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_version_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> VersionsPage:
        where = (prefix, after_key, after_version_id, delimiter, limit)
        answer = await self._read(bucket.shard, "list_versions", bucket.id, *where)
        return cast("VersionsPage", answer)

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> UploadsPage:
        where = (prefix, after_key, after_upload_id, delimiter, limit)
        answer = await self._read(bucket.shard, "list_uploads", bucket.id, *where)
        return cast("UploadsPage", answer)

    async def upload(self, bucket: Bucket, key: bytes, upload_id: str) -> Upload | None:
        answer = await self._read(bucket.shard, "upload", bucket.id, key, upload_id)
        return cast("Upload | None", answer)

    async def parts(
        self, bucket: Bucket, upload_id: str, *, after: int = 0, limit: int = PART_NUMBER_MAX
    ) -> Sequence[Part]:
        answer = await self._read(bucket.shard, "parts", bucket.id, upload_id, after, limit)
        return cast("list[Part]", answer)

    async def mutate(self, bucket: Bucket, mutation: DataMutation) -> MutationResult:
        return await self._mutate(bucket.shard, mutation)

    async def mutate_all(
        self, bucket: Bucket, mutations: Sequence[DataMutation]
    ) -> Sequence[MutationResult | ObjectStoreError]:
        """All are sent together; those that the owner did not decide are so again, in order."""
        outcomes: dict[int, MutationResult | ObjectStoreError] = {}
        patience = _Patience(self.owners, MUTATE)
        left = list(range(len(mutations)))
        while left:
            undecided: list[int] = []
            refusal: ObjectStoreError | None = None
            calls = [
                self._started(bucket.shard, MUTATE, mutations[place], patience.left_s)
                for place in left
            ]
            for place, call in zip(left, calls, strict=True):
                try:
                    outcomes[place] = result_of(type(mutations[place]), await call)
                except (NotOwnerError, UnsentError) as error:
                    undecided.append(place)
                    outcomes[place] = refusal = error
                except ObjectStoreError as error:
                    outcomes[place] = error
            left = undecided
            if refusal is not None and not await patience.waits(refusal):
                break
        return [outcomes[place] for place in range(len(mutations))]

    async def mutate_on(self, shard: ShardId, mutation: DataMutation) -> MutationResult:
        """As `mutate`, of a shard rather than of one of its buckets."""
        return await self._mutate(shard, mutation)

    async def mutate_shards(self, mutation: DataMutation) -> None:
        for shard in self._data_shards:
            await self._mutate(shard, mutation)

    async def close(self) -> None:
        self.owners.close()
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()
        if self._closing:
            await asyncio.wait(self._closing)

    # --- routing ---

    async def _read(self, shard: ShardId, method: str, *arguments: object) -> object:
        raw = await self._ask(shard, method, arguments, again=True)
        return READS[method].result.decode(raw)

    async def _mutate(self, shard: ShardId, mutation: Mutation) -> MutationResult:
        kind = type(mutation)
        return result_of(kind, await self._ask(shard, MUTATE, mutation, again=kind in REPEATABLE))

    async def _ask(
        self, shard: ShardId, method: str, arguments: object, *, again: bool
    ) -> msgspec.Raw:
        patience = _Patience(self.owners, method)
        while True:
            try:
                return await self._started(shard, method, arguments, patience.left_s)
            except (NotOwnerError, UnavailableError) as error:
                if not again and type(error) is UnavailableError:
                    raise
                if not await patience.waits(error):
                    raise

    def _started(
        self, shard: ShardId, method: str, arguments: object, within_s: float
    ) -> asyncio.Future[msgspec.Raw]:
        """The call to who has the shard now. Raises RecordTooLargeError; the future also what
        `Link.start` says.
        """
        owner = self.owners.of(shard)
        if owner is None:
            nobody: asyncio.Future[msgspec.Raw] = self._loop.create_future()
            nobody.set_exception(self.owners.not_owner(shard))
            return nobody
        link = self._links.get(owner.address)
        if link is None:
            link = self._links[owner.address] = GatewayLink(owner.address, self._context)
        return link.start((method, shard, arguments), tag=shard, within_s=within_s)

    def _moved(self, name: str, address: str) -> None:
        """The last owner answers what it was asked before, if it lives."""
        link, shard = self._links.get(address), self._numbers.get(name)
        if link is not None and shard is not None:
            self._loop.call_later(GIVE_UP_S, self._leave, link, shard, address, link.last)

    def _leave(self, link: GatewayLink, shard: ShardId, address: str, last: int) -> None:
        """Calls of other shards that were at that address have their time, too: the link is closed
        when the last of them is over. By then another link may be in its place.
        """
        link.give_up(shard, last, "another pod has the shard by now, the outcome is unknown")
        ours = self._links.get(address) is link
        if ours and link.idle and address not in self.owners.addresses():
            closing = self._loop.create_task(self._links.pop(address).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _bucket(self, generation: int, name: str) -> Bucket | None:
        cache = self._cache
        cache.enter(generation)
        if name in cache.buckets:
            return cache.buckets[name]
        found = cast("Bucket | None", await self._read(DIRECTORY_SHARD, "bucket", name))
        if cache.holds(generation):
            cache.buckets[name] = found
        return found

    async def _user_of_key(self, generation: int, access_key: str) -> tuple[User, AccessKey] | None:
        cache = self._cache
        cache.enter(generation)
        if access_key in cache.keys:
            return cache.keys[access_key]
        answer = await self._read(DIRECTORY_SHARD, "user_of_key", access_key)
        found = cast("tuple[User, AccessKey] | None", answer)
        if cache.holds(generation):
            cache.keys[access_key] = found
        return found

    async def _ask_generation(self) -> int:
        # This runs in the next turn of the loop; who comes after it asks anew.
        self._question = None
        return _decode_generation(await self._ask(DIRECTORY_SHARD, GENERATION, (), again=True))


def _seen(question: asyncio.Task[int]) -> None:
    """Who asked may have given up by then: a failure is nobody's."""
    if not question.cancelled():
        question.exception()


class _Patience:
    """One call's, from its beginning: how long it may take, and may still look for the owner."""

    __slots__ = ("_begun", "_looks_s", "_loop", "_owners", "_pause_s", "_takes_s")

    def __init__(self, owners: Owners, method: str) -> None:
        self._owners = owners
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._looks_s, self._takes_s = ROUTE_WAIT_S_MAX, ROUTE_WAIT_S_MAX
        if method == MUTATE:
            self._looks_s, self._takes_s = MUTATION_WAIT_S_MAX, CALL_S_MAX
        self._pause_s = PAUSE_S_MIN

    @property
    def left_s(self) -> float:
        """How long the call may still take."""
        return self._begun + self._takes_s - self._loop.time()

    async def waits(self, error: ObjectStoreError) -> bool:
        """Wait for what may help against this refusal; False when the time is over."""
        if isinstance(error, NotOwnerError) and self._owners.learn(error):
            return True
        left = self._begun + self._looks_s - self._loop.time()
        if left <= 0:
            return False
        await self._owners.change(min(self._pause_s, left))
        self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)
        return True
