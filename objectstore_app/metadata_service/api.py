"""What the metadata service offers: its values, its operations and the client that front ends hold.

Theory of operation. A *mutation* is a request to a shard's single writer; it is decided and applied
at its place in the order, and its future resolves only when it is durable and visible to readers.
*Reads* see committed state only. Two shards kinds exist: the *directory* (buckets by name, people,
access keys) and *data* shards (what lies in buckets). What decides access lives in the directory;
what decides writes (versioning state, conditions) lives in the data shard.

Structs travel over RPC and lie in records and rows as msgpack. Fields are added at the end or with
defaults and never change meaning: old bytes stay readable (docs/formats/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import BucketId, ShardId, UserId, VersionOrder
from ..media.api import Extent

# --- values of the directory ---


class Bucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket as the directory knows it. `acl` is a canned ACL's name. `settings` holds later
    configuration by name.
    """

    id: BucketId
    name: str
    owner: UserId
    shard: ShardId
    created_ms: int
    acl: str = "private"
    region: str = "us-east-1"
    settings: dict[str, bytes] = {}


class AccessKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`sealed_secret` is opaque here: only iam can open it."""

    access_key: str
    sealed_secret: bytes
    created_ms: int
    active: bool = True


class KeyVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`id` is unique in the store for ever: the sequence of the record that made it. `sealed` is
    opaque here: only iam can open it.
    """

    id: int
    created_ms: int
    sealed: bytes


class StoreKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named key of the local key store. The last version wraps what is written, the others open
    what they wrapped.
    """

    name: str
    versions: tuple[KeyVersion, ...]


class User(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: UserId
    email: str
    name: str
    created_ms: int
    administrator: bool = False
    keys: tuple[AccessKey, ...] = ()


# --- values of a data shard ---


class Attributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a version carries besides its bytes.

    `headers` are the system headers stored as given, lower-cased names (content-type,
    cache-control, …); `user` is x-amz-meta-* without the prefix; `checksums` maps an algorithm
    (`CRC64NVME`, …) to base64, with `-N` if composite; `part_sizes` and `part_checksums` describe a
    multipart object's parts in order; `encryption` is what was asked for (s3_adapter/encryption.py
    reads it), "" for nothing.
    """

    headers: dict[str, str] = {}
    user: dict[str, str] = {}
    checksums: dict[str, str] = {}
    checksum_type: str = "FULL_OBJECT"
    acl: str = "private"
    part_sizes: tuple[int, ...] = ()
    part_checksums: tuple[str, ...] = ()
    encryption: str = ""


class Coding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a run of a body's extents lies on the medium (docs/formats/coding.md).

    `sizes` are the plain bytes of each extent of the run, in order; an inline body counts as one.
    `frame_bytes` 0 means that they lie there plain. `key` is the version of a store key that wraps
    the run's data key, 0 for none, CUSTOMER_KEY for one that the client holds; `wrapped` is that
    data key.
    """

    sizes: tuple[int, ...]
    frame_bytes: int = 0
    key: int = 0
    wrapped: bytes = b""


CUSTOMER_KEY = -1


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The stored bytes of a version: `inline` when tiny, else `extents` in order. Without `coding`
    they are the version's own, else its runs cover them in order.

    The body of a very large version lies in `upload`, that which made it, whose parts keep rows of
    their own (`MetadataClient.parts`): all of them, plain, in order. `part_numbers` is empty when
    they are 1, 2, 3 …
    """

    inline: bytes = b""
    extents: tuple[Extent, ...] = ()
    coding: tuple[Coding, ...] = ()
    upload: str = ""
    part_numbers: tuple[int, ...] = ()


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One version of a key. `etag` has no quotes; `version_id` is `null` or opaque text."""

    key: bytes
    order: VersionOrder
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: UserId
    delete_marker: bool = False
    attributes: Attributes = Attributes()
    body: Body = Body()


class Upload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    key: bytes
    upload_id: str
    initiated_ms: int
    owner: UserId
    attributes: Attributes = Attributes()
    checksum_algorithm: str = ""
    checksum_type: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str] = {}
    body: Body = Body()


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket holds: `objects` are current ones, `versions` and `size_bytes` count every
    version with bytes.
    """

    objects: int = 0
    versions: int = 0
    size_bytes: int = 0
    uploads: int = 0


class BucketUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket and what it holds."""

    name: str
    owner: UserId
    usage: Usage


class BucketState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`versioning` is `""` (never enabled), `Enabled` or `Suspended`."""

    versioning: str = ""
    usage: Usage = Usage()


class WriteCondition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Decided against the current version at the write's place in the order. `*` matches any
    existing object.

    `if_match` on a missing object refuses with KeyMissingError; a failed comparison with
    ConditionFailedError.
    """

    if_match: str = ""
    if_none_match: str = ""


# --- mutations of the directory ---


class CreateBucket(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Bucket. Raises BucketExistsError."""

    name: str
    owner: UserId
    acl: str = "private"
    region: str = "us-east-1"


class RemoveBucket(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. The directory's half of deleting a bucket. Raises BucketMissingError."""

    id: BucketId


class SetBucketAcl(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. Raises BucketMissingError."""

    id: BucketId
    acl: str


class SetBucketSetting(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. Sets `settings[name]`; an empty value removes it. Raises BucketMissingError."""

    id: BucketId
    name: str
    value: bytes


class AddStoreKey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ StoreKey, with one version. Raises StoreKeyExistsError."""

    name: str
    sealed: bytes


class RotateStoreKey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ StoreKey, with one version more, the active one. Raises StoreKeyMissingError."""

    name: str
    sealed: bytes


class RemoveKeyVersion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ StoreKey. Forgets a version that every data shard has closed (CloseKey).

    Raises StoreKeyMissingError; StoreKeyInUseError for the active version.
    """

    name: str
    version: int


class AddUser(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ User. Raises UserExistsError when the id, the e-mail address or one of the access keys is
    taken.
    """

    id: UserId
    email: str
    name: str
    administrator: bool = False
    keys: tuple[AccessKey, ...] = ()


class RemoveUser(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. The user's keys stop working; buckets stay. Raises UserMissingError."""

    id: UserId


# --- mutations of a data shard ---


class OpenBucket(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. The data shard's half of creating a bucket; again is harmless."""

    bucket: BucketId


class CloseBucket(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. From here every mutation of the bucket is refused. Raises BucketNotEmptyError; again
    is harmless.
    """

    bucket: BucketId


class SetVersioning(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. `state` is `Enabled` or `Suspended`. Raises BucketMissingError."""

    bucket: BucketId
    state: str


class PutVersion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Written. `data` goes into the record (at most RECORD_BODY_BYTES_MAX), or `extents` name
    flushed chunks.

    Raises BucketMissingError, ConditionFailedError, KeyMissingError, StoreKeyClosedError,
    ChunksExpiredError, MediaFullError.
    """

    bucket: BucketId
    key: bytes
    owner: UserId
    size: int
    etag: str
    attributes: Attributes = Attributes()
    data: bytes = b""
    extents: tuple[Extent, ...] = ()
    condition: WriteCondition = WriteCondition()
    coding: tuple[Coding, ...] = ()


class DeleteKey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Deleted. Without a version: removes the object, or adds a delete marker where versioning
    says so. Raises as PutVersion.
    """

    bucket: BucketId
    key: bytes
    owner: UserId
    condition: WriteCondition = WriteCondition()


class DeleteVersion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Deleted. Removes one version for good; a version that is not there is no error (`found` is
    false).
    """

    bucket: BucketId
    key: bytes
    version_id: str


class SetObjectAcl(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Written of the version changed. `version_id` empty means the current one. Raises
    KeyMissingError, VersionMissingError.
    """

    bucket: BucketId
    key: bytes
    acl: str
    version_id: str = ""


class CreateUpload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Upload."""

    bucket: BucketId
    key: bytes
    owner: UserId
    attributes: Attributes = Attributes()
    checksum_algorithm: str = ""
    checksum_type: str = ""


class PutPart(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Part. Replaces a part of the same number. Raises UploadMissingError, StoreKeyClosedError,
    ChunksExpiredError.
    """

    bucket: BucketId
    key: bytes
    upload_id: str
    number: int
    size: int
    etag: str
    checksums: dict[str, str] = {}
    data: bytes = b""
    extents: tuple[Extent, ...] = ()
    coding: tuple[Coding, ...] = ()


class CompletedPart(msgspec.Struct, frozen=True, array_like=True):
    number: int
    etag: str


class CompleteUpload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Written. `etag` and `attributes` are the finished object's, computed by the caller from the
    parts it read.

    The writer checks that the named parts are still those (number and ETag), are in order and large
    enough. Repeating a completion that went through is answered with the same Written. Raises
    UploadMissingError, InvalidPartError, PartTooSmallError, ConditionFailedError, KeyMissingError.
    """

    bucket: BucketId
    key: bytes
    upload_id: str
    parts: tuple[CompletedPart, ...]
    etag: str
    attributes: Attributes
    condition: WriteCondition = WriteCondition()


class AbortUpload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. Raises UploadMissingError."""

    bucket: BucketId
    key: bytes
    upload_id: str


class MoveVersionBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Moved. `data` is what the extent `old` holds, verified: it goes into the record, and the
    version `order` names it there from now on, if it still names `old`.
    """

    bucket: BucketId
    key: bytes
    order: int
    old: Extent
    data: bytes


class MovePartBody(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Moved. As MoveVersionBody, for a part of an upload."""

    bucket: BucketId
    upload_id: str
    number: int
    old: Extent
    data: bytes


class ForgetGarbage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. Nothing is left of the garbage that lies in `segment` from offset `start` to before
    `end` and was freed at `freed_ms` or earlier: its rows go.
    """

    segment: int
    start: int
    end: int
    freed_ms: int


class ForgetBucket(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. The row of a bucket that is closed, and that the directory does not name, goes."""

    bucket: BucketId


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """False: the row names other bytes by now, or is gone; nothing was written."""

    moved: bool = True


class CloseKey(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ None. From here the shard takes no body whose data key this key version wraps.

    Raises StoreKeyInUseError while the shard holds one; again is harmless.
    """

    key: int


class Rewrapped(msgspec.Struct, frozen=True, array_like=True):
    """A wrapped data key, and the same data key wrapped by the version `key` of a store key."""

    old: bytes
    key: int
    new: bytes


class RewrapVersion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """→ Moved. Changes the wrapped data keys of a version's body where they are still the `old`
    ones. Raises StoreKeyClosedError.
    """

    bucket: BucketId
    key: bytes
    order: int
    wraps: tuple[Rewrapped, ...]


class Written(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`version_id` is empty where the bucket never had versioning; `size` is that of the object."""

    version_id: str
    etag: str
    modified_ms: int
    size: int = 0


class Deleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`delete_marker`: the delete made one, or the version removed was one; `version_id` is that
    version's (or empty).
    """

    version_id: str = ""
    delete_marker: bool = False
    found: bool = True


DirectoryMutation = (
    CreateBucket
    | RemoveBucket
    | SetBucketAcl
    | SetBucketSetting
    | AddUser
    | RemoveUser
    | AddStoreKey
    | RotateStoreKey
    | RemoveKeyVersion
)
DataMutation = (
    OpenBucket
    | CloseBucket
    | SetVersioning
    | PutVersion
    | DeleteKey
    | DeleteVersion
    | SetObjectAcl
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
    | MoveVersionBody
    | MovePartBody
    | ForgetGarbage
    | ForgetBucket
    | CloseKey
    | RewrapVersion
)
MutationResult = Bucket | User | StoreKey | Upload | Part | Written | Deleted | Moved | None


# --- pages ---


ObjectRow = tuple[bytes, int, int, str, int, str, str | None, int]
"""Key, modified (hours since the epoch, milliseconds behind them), ETag, size, checksum
(`pages.checksum_text`), owner (None unless asked for), delete marker (0).
"""

VersionRow = tuple[bytes, str, int, int, str, int, str, int, str, int]
"""Key, version id, modified (as above), ETag, size, checksum, delete marker (0, 1), owner,
the order.
"""


class ObjectsPage(NamedTuple):
    """Objects and common prefixes, each in key order. Resume behind `next_after`: the last entry,
    or, where the page ended early, a key with NUL at its end: the next one to look at.
    """

    objects: Sequence[ObjectRow]
    prefixes: Sequence[bytes]
    truncated: bool = False
    next_after: bytes = b""


class VersionsPage(NamedTuple):
    """Versions and delete markers of each key, newest first, and common prefixes. Of the key
    `continued` a newer version came before this page. Resume with both `next_*` (the version id may
    be empty).
    """

    versions: Sequence[VersionRow]
    prefixes: Sequence[bytes]
    continued: bytes = b""
    truncated: bool = False
    next_key: bytes = b""
    next_version_id: str = ""


class UploadsPage(msgspec.Struct, frozen=True, kw_only=True):
    entries: tuple[Upload | bytes, ...]
    truncated: bool
    next_key: bytes = b""
    next_upload_id: str = ""


# --- the client ---


class MetadataClient(Protocol):
    """Held by front ends: over the views and writers of a folder, or over the gateways of the
    shards' owners. Every read may raise UnavailableError and NotOwnerError; every mutation also
    what its struct names, and MediaFullError.
    """

    async def bucket(self, name: str) -> Bucket | None: ...

    async def buckets(self, owner: UserId) -> Sequence[Bucket]:
        """All buckets of one owner, by name."""

    async def user_of_key(self, access_key: str) -> tuple[User, AccessKey] | None: ...

    async def user_and_bucket(
        self, access_key: str, bucket: str
    ) -> tuple[tuple[User, AccessKey] | None, Bucket | None]:
        """Both, in no more round trips than one of them takes."""

    async def usage(self, after: str, limit: int) -> Sequence[BucketUsage]:
        """What buckets hold, exactly, by name: those behind `after`."""

    async def users(self) -> Sequence[User]: ...

    async def store_keys(self) -> Sequence[StoreKey]:
        """All named keys, by name."""

    async def key_use(self) -> dict[int, int]:
        """How many data keys each key version wraps, over all shards; versions without any are left
        out.
        """

    async def state(self, bucket: Bucket) -> BucketState: ...

    async def lookup(
        self, bucket: Bucket, key: bytes, version_id: str = "", *, body_bytes_max: int = 0
    ) -> ObjectVersion | None:
        """The current version (it may be a delete marker), or the named one, with its body's place;
        a body of at most that many bytes as an inline one where it would take another round trip.
        """

    async def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after: bytes = b"",
        delimiter: bytes = b"",
        limit: int = 1000,
        owners: bool = False,
    ) -> ObjectsPage:
        """Current objects whose keys start with `prefix` and are greater than `after`; a common
        prefix that `after` is in or equals is skipped whole. A page may end early, and even be
        empty, where many delete markers lie. `owners`: whether rows tell them.
        """

    async def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_version_id: str = "",
        delimiter: bytes = b"",
        limit: int = 1000,
    ) -> VersionsPage: ...

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        delimiter: bytes = b"",
        limit: int = 1000,
    ) -> UploadsPage: ...

    async def upload(self, bucket: Bucket, key: bytes, upload_id: str) -> Upload | None: ...

    async def parts(
        self, bucket: Bucket, upload_id: str, *, after: int = 0, limit: int = 10_000
    ) -> Sequence[Part]:
        """The upload's parts by number, with their bodies' places; also of an upload that a version
        keeps.
        """

    async def mutate_directory(self, mutation: DirectoryMutation) -> MutationResult: ...

    async def mutate(self, bucket: Bucket, mutation: DataMutation) -> MutationResult:
        """Durable and visible to every reader once this returns. Cancelling does not undo what was
        sent.
        """

    async def mutate_all(
        self, bucket: Bucket, mutations: Sequence[DataMutation]
    ) -> Sequence[MutationResult | ObjectStoreError]:
        """As `mutate` for each of them, decided in their order; what one raises stands in the place
        of its result.
        """

    async def mutate_shards(self, mutation: DataMutation) -> None:
        """The same mutation on every data shard, one after the other; ends with the first that
        refuses it.
        """

    async def close(self) -> None: ...
