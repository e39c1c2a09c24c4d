"""How far downloads are read ahead, where a read is a round trip to another machine.

A download is read in windows. One that is asked for while the one before it is on its way to the
client is held in memory until it is its turn; larger windows cost less, and hold more. What all
downloads of a process hold is one budget of bytes: the more of them there are the smaller are their
windows, and one that finds nothing left in it reads one small window after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import invariant
from ..core.limits import READ_PIECE_BYTES


class ReadAhead:
    """Belongs to one loop. `windows_max` is how many a download may have under way or on their way
    to its client, `window_bytes_max` how large one may be; `budget` is in bytes.
    """

    def __init__(self, windows_max: int, window_bytes_max: int, budget: int) -> None:
        invariant(windows_max > 1, "with one window nothing is read ahead")
        invariant(window_bytes_max % READ_PIECE_BYTES == 0, "a window is some pieces")
        self.windows_max = windows_max
        self._window_bytes_max = window_bytes_max
        self._budget = self._left = budget
        self._downloads = 0

    @contextmanager
    def download(self) -> Iterator[None]:
        """One more download shares the budget."""
        self._downloads += 1
        try:
            yield
        finally:
            self._downloads -= 1

    @property
    def window_bytes(self) -> int:
        """How large windows are at present: two for each download are within the budget."""
        fair = self._budget // (2 * max(1, self._downloads))
        fair -= fair % READ_PIECE_BYTES
        return max(READ_PIECE_BYTES, min(self._window_bytes_max, fair))

    def take(self, size: int) -> bool:
        """Whether so many bytes more may be held. Whoever may gives them back."""
        if self._left < size:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size
