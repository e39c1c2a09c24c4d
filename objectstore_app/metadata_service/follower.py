"""A standby's view: it follows the log of a shard that another pod has.

Theory of operation. Replaying the log again and again keeps a view a moment behind its end. What is
in a log stays in it, so the view holds nothing that a later owner would not have, and the standby
takes the shard by fencing the log and replaying the rest.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from ..core.ids import ShardId
from ..core.limits import MIB
from ..media.api import LogSource
from ..media.segments import DIRECTORY_SHARD, log_counter
from .shard import make_machine, replay
from .view import DATA, DIRECTORY, checkpoint, open_view, read_position

CLOSE_BYTES_MAX = 1 * MIB


class Follower:
    """Not for threads; `follow` blocks while it reads."""

    def __init__(
        self, shard: ShardId, view_path: Path, source: LogSource, *, data_shards: int
    ) -> None:
        """Raises MediaFailedError, CorruptDataError."""
        self._source = source
        self._view: apsw.Connection = open_view(
            view_path, DIRECTORY if shard == DIRECTORY_SHARD else DATA
        )
        self._machine = make_machine(shard, self._view, data_shards)

    def follow(self) -> bool:
        """Apply what the log has by now; whether that was little, so that the rest is little, too.

        Raises MediaFailedError; CorruptDataError, also when the log does not go back as far as the
        view any more: then a base is ahead of it.
        """
        _, before, start, _ = read_position(self._view)
        replay(self._source, self._view, self._machine)
        _, segment, offset, _ = read_position(self._view)
        same = log_counter(segment) == log_counter(before)
        return (offset - start if same else offset) <= CLOSE_BYTES_MAX and (same or not before)

    def close(self) -> None:
        """Leave the view to who opens it next."""
        checkpoint(self._view)
        self._view.close()
