"""How much room is left where a store lies."""

from __future__ import annotations

import os
from pathlib import Path

from .limits import HURRY_FREE_BYTES


def free_bytes(folder: Path) -> int:
    """The room that is left on the folder's file system. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def is_short(folder: Path) -> bool:
    """Whether so little is left that giving room back is in a hurry; False where nobody can say."""
    try:
        return free_bytes(folder) < HURRY_FREE_BYTES
    except OSError:
        return False
