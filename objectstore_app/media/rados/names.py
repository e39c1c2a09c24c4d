"""Names of the objects that hold segments."""

from __future__ import annotations

from ...core.ids import ShardId
from ..segments import is_chunk, log_name, shard_folder


def object_name(segment: int) -> str:
    """The object of a segment of either kind, but for a cold one."""
    if is_chunk(segment):
        return f"chunks/{segment:016x}"
    return f"{shard_folder(ShardId(segment >> 32))}/{log_name(segment)}"


def cold_name(segment: int) -> str:
    """The object of a chunk segment in the cold pool."""
    return f"cold/{segment:016x}"
