"""Objects in memory: the second implementation of `Objects`, for tests of what stands above it."""

from __future__ import annotations

from ..errors import MediaFullError
from .objects import GuardError

FREE_BYTES = 1 << 40


class MemoryObjects:
    """One call at a time; `objects` is all there is. While it is `full`, nothing may grow."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = {} if objects is None else objects
        self.free_bytes = lambda: FREE_BYTES
        self.full = False

    def create(self, name: str, content: bytes) -> bool:
        if name in self.objects:
            return False
        self.put(name, content)
        return True

    def write_if(
        self, name: str, guard: bytes, guard_offset: int, data: bytes, offset: int
    ) -> None:
        held = self._guarded(name, guard, guard_offset)
        start = held[:offset].ljust(offset, b"\0")
        self.put(name, start + data + held[offset + len(data) :])

    def replace_if(self, name: str, guard: bytes, guard_offset: int, content: bytes) -> None:
        self._guarded(name, guard, guard_offset)
        self.put(name, content)

    def put(self, name: str, content: bytes) -> None:
        if self.full and len(content) > len(self.objects.get(name, b"")):
            raise MediaFullError("write", name, "the pool is full")
        self.objects[name] = content

    def remove(self, name: str) -> None:
        self.objects.pop(name, None)

    def size(self, name: str) -> int | None:
        held = self.objects.get(name)
        return None if held is None else len(held)

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        held = self.objects.get(name)
        return None if held is None else held[offset : offset + length]

    def names(self) -> list[str]:
        return sorted(self.objects)

    def _guarded(self, name: str, guard: bytes, offset: int) -> bytes:
        held = self.objects.get(name, b"")
        # RADOS compares what is missing as zeros.
        if held[offset : offset + len(guard)].ljust(len(guard), b"\0") != guard:
            raise GuardError("write", name, "differs at 0")
        return held
