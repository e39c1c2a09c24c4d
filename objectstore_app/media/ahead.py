"""How far downloads are read ahead, where a read is a round trip to another machine.

A window of a download that is asked for while the one before it is on its way to the client is held
in memory until it is its turn. How many of them a process holds at most is one budget, whatever the
number of its downloads: one that finds nothing left in it reads window by window.
"""

from __future__ import annotations

from ..core.errors import invariant


class ReadAhead:
    """Belongs to one loop. `windows_max` is how many one download may have under way, the one that
    its client waits for included.
    """

    def __init__(self, windows_max: int, budget: int) -> None:
        invariant(windows_max > 1, "with one window nothing is read ahead")
        self.windows_max = windows_max
        self._left = budget

    def take(self) -> bool:
        """Whether one more window may be read ahead. Whoever may gives it back."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        self._left += 1
