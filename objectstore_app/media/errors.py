"""Errors of the media.

ObjectStoreError
└─ MediaError
   ├─ MediaFullError      no room: writes are refused, reads go on
   ├─ MediaFailedError    the medium failed; after a failed flush the process must exit
   │  ├─ FencedError      another process has taken the log over
   │  └─ UnsupportedError the file system has no such call
   └─ CorruptDataError    stored bytes do not match their checksum
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class MediaError(ObjectStoreError):
    """Something is wrong with where bytes lie."""


class MediaFullError(MediaError):
    """There is no room left; nothing was written."""

    retryable = True


class MediaFailedError(MediaError):
    """The medium refused a read, a write or a flush."""


class FencedError(MediaFailedError):
    """Another process has taken the log over: this one must acknowledge nothing more and exit."""


class UnsupportedError(MediaFailedError):
    """The file system cannot do that, now or later; what needs it is left out."""


class CorruptDataError(MediaError):
    """Stored bytes do not match their checksum; they are never returned."""
