"""What a shard's kind brings: how its mutations are decided and its effects applied.

Theory of operation. `decide` looks at the open transaction, so it sees every mutation before it,
and changes nothing: it refuses, or returns an effect that holds every choice made. `apply` is the
only code that changes rows; recovery, rebuild and fsck use it on the effects read from the log.
Rows that a machine keeps in memory are written by `flush` before a commit and dropped by `forget`
after a rollback.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from ..core.ids import Sequence
from ..media.api import Extent
from .api import DataMutation, DirectoryMutation, MutationResult
from .effects import Effect

Mutation = DirectoryMutation | DataMutation


class Decision(msgspec.Struct, frozen=True, gc=False):
    """`effect` None: nothing to change, the result holds as it is. `body` goes into the record."""

    effect: Effect | None
    result: MutationResult
    body: bytes = b""


class Machine(Protocol):
    def decide(self, mutation: Mutation, sequence: Sequence, now_ms: int) -> Decision:
        """Raises Refused."""

    def apply(
        self,
        effect: Effect,
        sequence: Sequence,
        body: bytes | memoryview,
        extent: Extent | None,
    ) -> None:
        """Change the rows. `extent` is where the record's body lies, None when it has none."""

    def flush(self) -> None: ...

    def forget(self) -> None: ...
