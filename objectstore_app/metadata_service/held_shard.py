"""One shard as the gateway beside its process serves it: look-ups, confirmed, and mutations.

Theory of operation. The shard's process says by `Holding` whether it has the log, and under which
epoch; it may be wrong, for a process that was paused is told last. So a look-up's answer is held
back until the medium, asked after the look-up's call arrived, still showed that epoch: whoever took
the log over later had acknowledged nothing by then, and what was acknowledged until then is in the
view. One question at a time serves all the look-ups that came before it began.

The view is opened when the first look-up wants it, and anew when another file stands in its place.
A process that begins anew says first that it has the log no more, then that the file is another
one, and then puts it there, perhaps behind the log's end. So a view is good under an epoch if the
process told both before it was opened and still tells them after that.
Mutations go to the process unread. Whatever it did not decide is answered with NotOwnerError, which
says who the owner is, as far as this pod knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..core.limits import CONFIRM_S_MAX
from ..media.errors import MediaError, MediaFailedError
from .errors import NotOwnerError, UnavailableError
from .holding import Holding
from .pipe import MutationPipe
from .view import open_reader

Settle = Callable[[ObjectStoreError | None], None]
"""Called with what keeps an answer back for good, or None when it may go."""


class ShardPipe(MutationPipe):
    """To the process of a shard that this pod has, or had a moment ago."""

    @property
    def patience_s(self) -> float:
        """A process that died has its shard back in a moment, or another pod has it."""
        return 0.2


class HeldShard:
    """Belongs to one loop."""

    def __init__(
        self,
        shard: ShardId,
        holding: Holding,
        view: Path,
        pipe: MutationPipe,
        *,
        confirm: Callable[[ShardId, int], Awaitable[bool]],
        owner: Callable[[ShardId], NotOwnerError],
    ) -> None:
        """`confirm` is Media's; `owner` says who has the shard when we do not."""
        self._shard = shard
        self._holding = holding
        self._path = view
        self._pipe = pipe
        self._confirm = confirm
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._view: apsw.Connection | None = None
        self._opened = -1
        self._lost = 0
        self._waiting: list[tuple[int, Settle]] = []
        self._asking: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        return self._holding.generation

    def view(self) -> tuple[int, apsw.Connection]:
        """The view, and the epoch that has to be confirmed for what is found there. Raises
        NotOwnerError, MediaFailedError.
        """
        while True:
            opened, epoch = self._holding.opened, self._holding.epoch
            if not epoch or epoch == self._lost:
                raise self._owner(self._shard)
            if self._view is None or opened != self._opened:
                self._close_view()
                try:
                    self._view = open_reader(self._path)
                except MediaFailedError:
                    if self._holding.epoch == epoch:
                        raise
                    continue
                self._opened = opened
            if (self._holding.opened, self._holding.epoch) == (opened, epoch):
                return epoch, self._view

    def confirm(self, epoch: int, settle: Settle) -> None:
        """Settle what was looked up under that epoch, after its call arrived."""
        self._waiting.append((epoch, settle))
        if self._asking is None:
            # In the next turn: what else has arrived by then shares the question.
            self._asking = self._loop.create_task(self._ask())

    def mutate(self, mutation: msgspec.Raw) -> asyncio.Future[msgspec.Raw]:
        """Raises RecordTooLargeError; the future as `Link.start` says, NotOwnerError among it: the
        process knows best whether it decides, and who does in its place.
        """
        return self._pipe.start((mutation,))

    def not_owner(self) -> NotOwnerError:
        return self._owner(self._shard)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self._pipe.close()
        self._close_view()
        self._holding.close()

    async def _ask(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                epoch = self._holding.epoch
                refusal = await self._refusal(epoch)
                for looked_up, settle in waiting:
                    settle(refusal if looked_up == epoch else self._owner(self._shard))
        finally:
            self._asking = None

    async def _refusal(self, epoch: int) -> ObjectStoreError | None:
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                ours = await self._confirm(self._shard, epoch)
        except TimeoutError:
            return UnavailableError("confirm", str(self._path.parent.name), "no answer in time")
        except MediaError as error:
            return UnavailableError("confirm", str(self._path.parent.name), str(error))
        if ours:
            return None
        self._lost = epoch
        return self._owner(self._shard)

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close(True)
            self._view = None
