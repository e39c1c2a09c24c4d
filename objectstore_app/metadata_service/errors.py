"""What a metadata operation may refuse, and how the service may fail.

ObjectStoreError
└─ MetadataError
   ├─ Refused                    decided by the shard's writer in its turn; nothing changed
   │  ├─ BucketExistsError       `hint` says whose it is
   │  ├─ BucketMissingError
   │  ├─ BucketNotEmptyError
   │  ├─ KeyMissingError         a condition or an operation named an object that is not there
   │  ├─ VersionMissingError
   │  ├─ ConditionFailedError    If-Match or If-None-Match did not hold
   │  ├─ UploadMissingError
   │  ├─ InvalidPartError        unknown part, or its ETag differs
   │  ├─ PartTooSmallError
   │  ├─ ChunksExpiredError      the body took so long that its chunks may be gone
   │  ├─ UserExistsError
   │  ├─ UserMissingError
   │  ├─ StoreKeyExistsError
   │  ├─ StoreKeyMissingError
   │  ├─ StoreKeyInUseError      it is the active version, or it wraps data keys
   │  └─ StoreKeyClosedError     the key version was retired meanwhile: write again
   ├─ RecordTooLargeError        a front end sent more than a record takes
   ├─ UnavailableError           the owner cannot be reached or is restarting: retry
   │  └─ UnsentError             nothing was sent to it, so nothing was decided
   └─ NotOwnerError              another pod has the shard; nothing was decided: ask that one
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class MetadataError(ObjectStoreError):
    """Something the metadata service would not or could not do."""


class Refused(MetadataError):  # noqa: N818 - reads as what it is: a decision, not a failure
    """A decision against the request; the state is as before."""


class BucketExistsError(Refused):
    """The name is taken; `subject` is the name and `hint` the owner's id."""


class BucketMissingError(Refused):
    """No such bucket, or it is being deleted."""


class BucketNotEmptyError(Refused):
    """The bucket still holds versions."""


class KeyMissingError(Refused):
    """No current object of that key (a delete marker counts as none)."""


class VersionMissingError(Refused):
    """No such version of that key."""


class ConditionFailedError(Refused):
    """A write condition did not hold when its turn came."""


class UploadMissingError(Refused):
    """No such multipart upload: never begun, completed or aborted."""


class InvalidPartError(Refused):
    """A part named in the completion is unknown or its ETag differs."""


class PartTooSmallError(Refused):
    """A part other than the last is smaller than PART_BYTES_MIN."""


class ChunksExpiredError(Refused):
    """Between the first byte of a body and its commit lay more than CHUNK_NAMED_S_MAX."""

    retryable = True


class UserExistsError(Refused):
    """The e-mail address or the access key is taken."""


class UserMissingError(Refused):
    """No such user or access key."""


class StoreKeyExistsError(Refused):
    """The store has a key of that name."""


class StoreKeyMissingError(Refused):
    """The store has no such key, or not that version of it."""


class StoreKeyInUseError(Refused):
    """The version of a key cannot go: it is the active one, or bodies need it."""


class StoreKeyClosedError(Refused):
    """The body was encrypted under a version that has been retired since; nothing was written."""

    retryable = True


class UnavailableError(MetadataError):
    """The shard's owner cannot be reached; the outcome of a write in flight is unknown."""

    retryable = True


class UnsentError(UnavailableError):
    """Nothing was sent: the same call may be sent again, to this owner or to another one."""


class NotOwnerError(MetadataError):
    """The shard (`subject`) is not this pod's, and nothing was decided: ask its owner. `hint` is
    what the map said last, the epoch and the address of the owner's gateway, as `EPOCH HOST:PORT`;
    empty when that is not known.
    """

    retryable = True

    @classmethod
    def of(cls, shard: str, epoch: int = 0, address: str = "") -> NotOwnerError:
        return cls("ask shard", shard, f"{epoch} {address}" if address else "")

    @property
    def epoch(self) -> int:
        """0 when it is not known."""
        return int(self.hint.partition(" ")[0] or 0)

    @property
    def address(self) -> str:
        """HOST:PORT; empty when it is not known."""
        return self.hint.partition(" ")[2]


class RecordTooLargeError(MetadataError):
    """The caller's fault: the mutation is larger than a record may be."""
