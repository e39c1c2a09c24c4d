"""A client's connection to one shard's writer over its Unix socket (`link.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ObjectStoreError
from ..core.limits import COMMIT_S_MAX
from . import sockets
from .api import MutationResult
from .link import Link
from .machine import Mutation
from .wire import outcomes_of, result_of


class MutationPipe(Link):
    """Mutations in batches. Belongs to one loop."""

    OPERATION = "write"
    RETRY_DELAY_S = 0.02
    ANSWER_S_MAX = COMMIT_S_MAX
    GREETS = True
    ABSENT = "no writer"
    SILENT = "it does not answer"

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(name)
        self._folder = folder

    async def submit(self, mutation: Mutation) -> MutationResult:
        """Return when the mutation is durable and visible. Raises what it was refused with,
        RecordTooLargeError, UnavailableError.
        """
        return result_of(type(mutation), await self.start((mutation,)))

    async def submit_all(
        self, mutations: Sequence[Mutation]
    ) -> list[MutationResult | ObjectStoreError]:
        """As `submit` for each of them, in one frame, decided in their order."""
        answers = await self.ask_all([(mutation,) for mutation in mutations])
        return outcomes_of(mutations, answers)

    async def _open(self) -> None:
        sock = sockets.connect(self._folder, self._name)
        await self._loop.create_connection(lambda: self, sock=sock)
