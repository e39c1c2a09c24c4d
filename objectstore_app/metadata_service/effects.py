"""Effects: what a decided mutation does to the rows, as it lies in the log (docs/formats/log.md).

An effect holds every choice that was made (ids, times, what is replaced), so applying the same
effects in the same order gives the same rows, now and at every replay. They are msgpack arrays with
a numeric tag; fields are only ever added at the end, with a default.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..core.ids import BucketId, UserId
from ..media.api import Extent
from .api import Attributes, Bucket, Coding, Rewrapped, StoreKey, Upload, User


class BucketOpened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    bucket: BucketId


class BucketClosed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The bucket's uploads are aborted with it."""

    bucket: BucketId
    at_ms: int


class VersioningSet(msgspec.Struct, frozen=True, array_like=True, tag=3):
    bucket: BucketId
    state: str


class VersionWritten(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A new current version (or delete marker), in the order of its record.

    `replaces` are orders of versions removed by it, `buries` the order of a null version that is
    current no more (0: none), `objects` what the number of current objects changes by. A body of up
    to INLINE_BYTES_MAX in the record goes into the row. `upload` completes that upload with the
    parts of `part_numbers`; `parts_digest` recognises a repeated completion. With `keeps_parts`
    their rows stay as they are and the version names the upload, else it takes over their extents.
    """

    bucket: BucketId
    key: bytes
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: UserId
    marker: bool
    attributes: Attributes
    extents: tuple[Extent, ...]
    replaces: tuple[int, ...]
    buries: int
    objects: int
    upload: str = ""
    part_numbers: tuple[int, ...] = ()
    parts_digest: bytes = b""
    coding: tuple[Coding, ...] = ()
    keeps_parts: bool = False


class VersionRemoved(msgspec.Struct, frozen=True, array_like=True, tag=5):
    bucket: BucketId
    key: bytes
    order: int
    objects: int
    at_ms: int


class AclSet(msgspec.Struct, frozen=True, array_like=True, tag=6):
    bucket: BucketId
    key: bytes
    order: int
    acl: str


class UploadCreated(msgspec.Struct, frozen=True, array_like=True, tag=7):
    bucket: BucketId
    upload: Upload


class PartWritten(msgspec.Struct, frozen=True, array_like=True, tag=8):
    bucket: BucketId
    upload: str
    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str]
    extents: tuple[Extent, ...]
    coding: tuple[Coding, ...] = ()


class UploadAborted(msgspec.Struct, frozen=True, array_like=True, tag=9):
    bucket: BucketId
    key: bytes
    upload: str
    at_ms: int


class VersionBodyMoved(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The version's extent at `offset` of `segment` is garbage; its bytes are the record's body."""

    bucket: BucketId
    key: bytes
    order: int
    segment: int
    offset: int
    at_ms: int


class PartBodyMoved(msgspec.Struct, frozen=True, array_like=True, tag=11):
    bucket: BucketId
    upload: str
    number: int
    segment: int
    offset: int
    at_ms: int


class GarbageForgotten(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The garbage in `segment` from offset `start` to before `end`, freed at `freed_ms` at the
    latest, has no rows any more.
    """

    segment: int
    start: int
    end: int
    freed_ms: int


class BucketForgotten(msgspec.Struct, frozen=True, array_like=True, tag=13):
    bucket: BucketId


class BucketCreated(msgspec.Struct, frozen=True, array_like=True, tag=20):
    bucket: Bucket


class BucketRemoved(msgspec.Struct, frozen=True, array_like=True, tag=21):
    id: BucketId


class BucketAclSet(msgspec.Struct, frozen=True, array_like=True, tag=22):
    id: BucketId
    acl: str


class UserAdded(msgspec.Struct, frozen=True, array_like=True, tag=23):
    user: User


class UserRemoved(msgspec.Struct, frozen=True, array_like=True, tag=24):
    id: UserId


class BucketSettingSet(msgspec.Struct, frozen=True, array_like=True, tag=25):
    id: BucketId
    name: str
    value: bytes


class StoreKeySet(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """Adds the key or takes the place of the one of that name."""

    key: StoreKey


class KeyClosed(msgspec.Struct, frozen=True, array_like=True, tag=40):
    key: int


class KeysRewrapped(msgspec.Struct, frozen=True, array_like=True, tag=41):
    bucket: BucketId
    key: bytes
    order: int
    wraps: tuple[Rewrapped, ...]


DataEffect = (
    BucketOpened
    | BucketClosed
    | VersioningSet
    | VersionWritten
    | VersionRemoved
    | AclSet
    | UploadCreated
    | PartWritten
    | UploadAborted
    | VersionBodyMoved
    | PartBodyMoved
    | GarbageForgotten
    | BucketForgotten
    | KeyClosed
    | KeysRewrapped
)
DirectoryEffect = (
    BucketCreated
    | BucketRemoved
    | BucketAclSet
    | UserAdded
    | UserRemoved
    | BucketSettingSet
    | StoreKeySet
)
Effect = DataEffect | DirectoryEffect

_GIVE_ROOM = (
    VersionRemoved,
    UploadAborted,
    BucketClosed,
    BucketRemoved,
    UserRemoved,
    VersionBodyMoved,
    PartBodyMoved,
    GarbageForgotten,
    BucketForgotten,
)

_decoder: msgspec.msgpack.Decoder[Effect] = msgspec.msgpack.Decoder(Effect)


encode_effect: Callable[[Effect], bytes] = msgspec.msgpack.Encoder().encode


def decode_effect(payload: bytes | memoryview) -> Effect:
    """Raises msgspec.MsgspecError when the payload is none of ours."""
    return _decoder.decode(payload)


def gives_room(effect: Effect) -> bool:
    """Whether the effect deletes something, or is a step on the way to giving room back: it takes
    little itself and must be possible on a disk that is all but full.
    """
    if isinstance(effect, VersionWritten):
        return effect.marker
    return isinstance(effect, _GIVE_ROOM)
