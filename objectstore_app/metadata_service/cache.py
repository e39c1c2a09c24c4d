"""A front end's cache of buckets and people, exact by the directory's generation.

What is cached was read *after* the generation it is filed under, and the writer advances the
generation before it answers a change. So a look-up that begins after a change was answered sees a
new generation, drops the cache and reads anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from .api import AccessKey, Bucket, StoreKey, User

ENTRIES_MAX = 10_000


class DirectoryCache:
    """Holds what was found, and what was not, under one generation at a time."""

    def __init__(self) -> None:
        self._generation = -1
        self.buckets: dict[str, Bucket | None] = {}
        self.keys: dict[str, tuple[User, AccessKey] | None] = {}
        self.store_keys: Sequence[StoreKey] | None = None

    def enter(self, generation: int) -> None:
        """Keep only what is of this generation, within bounds."""
        if (
            generation != self._generation
            or len(self.buckets) > ENTRIES_MAX
            or len(self.keys) > ENTRIES_MAX
        ):
            self._generation = generation
            self.buckets.clear()
            self.keys.clear()
            self.store_keys = None

    def holds(self, generation: int) -> bool:
        """Whether what was read under that generation may still be filed."""
        return generation == self._generation
