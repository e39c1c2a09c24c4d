"""A client's connection to one shard's writer over its Unix socket (`link.py`)."""

from __future__ import annotations

from pathlib import Path

from ..core.limits import COMMIT_S_MAX
from . import sockets
from .api import MutationResult
from .link import Link
from .machine import Mutation
from .wire import result_of


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
        return result_of(type(mutation), await self.ask(mutation))

    async def _open(self) -> None:
        sock = sockets.connect(self._folder, self._name)
        await self._loop.create_connection(lambda: self, sock=sock)
