"""The one place where errors of the layers below become S3 errors."""

from __future__ import annotations

from ..core.errors import InvariantError, ObjectStoreError
from ..iam.errors import SealError
from ..media.errors import CorruptDataError, MediaFailedError, MediaFullError
from ..metadata_service import errors as metadata
from ..protocol.errors import S3Error

RETRY_AFTER_S = 1

_CODES: dict[type[ObjectStoreError], str] = {
    metadata.BucketMissingError: "NoSuchBucket",
    metadata.BucketNotEmptyError: "BucketNotEmpty",
    metadata.KeyMissingError: "NoSuchKey",
    metadata.VersionMissingError: "NoSuchVersion",
    metadata.ConditionFailedError: "PreconditionFailed",
    metadata.UploadMissingError: "NoSuchUpload",
    metadata.InvalidPartError: "InvalidPart",
    metadata.PartTooSmallError: "EntityTooSmall",
    metadata.ChunksExpiredError: "RequestTimeout",
    metadata.UnavailableError: "ServiceUnavailable",
    metadata.UnsentError: "SlowDown",
    metadata.NotOwnerError: "SlowDown",
    MediaFullError: "InsufficientStorage",
    MediaFailedError: "InternalError",
    CorruptDataError: "InternalError",
    SealError: "InternalError",
    metadata.StoreKeyMissingError: "InternalError",
    metadata.StoreKeyClosedError: "ServiceUnavailable",
}

_NO_KEY = "A key that this needs is not in the key store, or cannot be opened."
_MESSAGES: dict[type[ObjectStoreError], str] = {
    SealError: _NO_KEY,
    metadata.StoreKeyMissingError: _NO_KEY,
}


def as_s3_error(error: ObjectStoreError) -> S3Error:
    """What a client is told. A programmer's fault, and what no row names, is raised again: the
    server answers 500 and logs the traceback.
    """
    if isinstance(error, S3Error):
        return error
    code = _CODES.get(type(error))
    if code is None or isinstance(error, InvariantError):
        raise error
    headers = [("Retry-After", str(RETRY_AFTER_S))] if error.retryable else []
    return S3Error(code, _MESSAGES.get(type(error)), headers=headers)
