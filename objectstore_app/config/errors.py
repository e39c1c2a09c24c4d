"""What may go wrong with settings, and with what pods tell each other.

ObjectStoreError
├─ SettingsError
├─ ShardMapError        the copy of the shard map cannot be read
└─ CoordinationError    ZooKeeper cannot be asked now, or not by us
   └─ IdentityError     what it knows of the store is not what this pod was told
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class SettingsError(ObjectStoreError):
    """`operation` is the setting, `subject` the value given, `hint` what would be right."""


class ShardMapError(ObjectStoreError):
    """The shard map's file cannot be read or makes no sense."""


class CoordinationError(ObjectStoreError):
    """The coordination service cannot be asked; who owns what stays as it is meanwhile."""

    retryable = True


class IdentityError(CoordinationError):
    """The store has other shards than this pod was told: an operator has to say which is right."""

    retryable = False
