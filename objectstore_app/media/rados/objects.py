"""Objects by name, as the log and the files need them: the seam under which RADOS or memory lies.

Every change is done whole or not at all and is durable on return. A *guard* is a comparison with
what the object holds; when it does not hold, nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import MediaError


class GuardError(MediaError):
    """What a guarded operation compares has changed; it did nothing."""


class Objects(Protocol):
    """All calls raise MediaFullError where there is no room, else MediaFailedError."""

    free_bytes: Callable[[], int]

    def create(self, name: str, content: bytes) -> bool:
        """Make an object that must not exist; false when it does."""

    def write_if(
        self, name: str, guard: bytes, guard_offset: int, data: bytes, offset: int
    ) -> None:
        """Write when the object holds the guard. Raises GuardError."""

    def replace_if(self, name: str, guard: bytes, guard_offset: int, content: bytes) -> None:
        """Put the content in the place of an object that holds the guard. Raises GuardError."""

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object, whatever was there."""

    def remove(self, name: str) -> None:
        """Remove an object that may be gone already."""

    def size(self, name: str) -> int | None:
        """None when there is no such object."""

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        """What the object has of these bytes; None when there is no such object."""
