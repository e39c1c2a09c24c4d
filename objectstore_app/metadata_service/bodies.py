"""Small bodies that a gateway has at hand, verified: what lies at an extent never changes. Most are
in the mirror of the log beside its view; of others it keeps those that it read lately.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ..core.limits import BODIES_KEPT_BYTES_MAX
from ..media.api import Extent, ExtentReader

_OBJECT_BYTES = 200
"""What an entry takes besides its bytes."""


class BodyCache:
    """Belongs to one loop. What was not used for the longest time goes first."""

    def __init__(
        self,
        reader: ExtentReader,
        mirrored: Callable[[Extent], bytes | None] = lambda _: None,
        *,
        bytes_max: int = BODIES_KEPT_BYTES_MAX,
    ) -> None:
        """`mirrored` is Media's."""
        self._reader = reader
        self._mirrored = mirrored
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def kept(self, extent: Extent) -> bytes | None:
        """All bytes of an extent if they are at hand."""
        place = extent.segment, extent.offset
        data = self._kept.get(place)
        if data is None:
            return self._mirrored(extent)
        self._kept.move_to_end(place)
        return data

    async def read(self, extent: Extent) -> bytes:
        """All bytes of an extent. Raises what the reader raises."""
        data = bytes(await self._reader.read(extent, 0, extent.length))
        place = extent.segment, extent.offset
        if place not in self._kept:
            self._kept[place] = data
            self._bytes += len(data) + _OBJECT_BYTES
            while self._bytes > self._bytes_max:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest) + _OBJECT_BYTES
        return data
