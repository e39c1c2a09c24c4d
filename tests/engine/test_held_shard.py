"""The view that a gateway reads while the shard's process begins anew at any moment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.metadata_service.errors import NotOwnerError
from objectstore_app.metadata_service.held_shard import HeldShard
from objectstore_app.metadata_service.holding import Holding
from objectstore_app.metadata_service.pipe import MutationPipe
from objectstore_app.metadata_service.view import DATA, open_view, read_position, write_position

SHARD = ShardId(0)
FULL, BEHIND = 9, 3


class Interrupted(Holding):
    """A reader's holding; `then` is done once, after so many looks at it."""

    def __init__(self, path: Path, looks: int, then: Callable[[], None]) -> None:
        super().__init__(path, write=False)
        self._left = looks
        self._then = then

    def _get(self, offset: int) -> int:
        found = super()._get(offset)
        self._left -= 1
        if self._left == 0:
            self._then()
        return found


def make_view(path: Path, sequence: int) -> None:
    view = open_view(path, DATA)
    write_position(view.cursor(), sequence, 1, 64, 1)
    view.close()


@pytest.mark.parametrize("takes", [False, True], ids=["follows", "takes-it-again"])
@pytest.mark.parametrize("looks", range(1, 7))
def test_view_that_is_behind_is_never_read_under_the_epoch_before(
    tmp_path: Path, looks: int, takes: bool
) -> None:
    path, other = tmp_path / "view.sqlite", tmp_path / "base.sqlite"
    make_view(path, FULL)
    make_view(other, BEHIND)
    process = Holding(tmp_path / "held", write=True)
    process.hold(1)

    def begin_anew() -> None:
        process.leave()
        process.replaced()
        os.rename(other, path)
        if takes:
            view = open_view(path, DATA)
            write_position(view.cursor(), FULL + 1, 1, 64, 2)
            view.close()
            process.hold(2)

    async def run() -> None:
        held = HeldShard(
            SHARD,
            Interrupted(tmp_path / "held", looks, begin_anew),
            path,
            cast("MutationPipe", None),
            confirm=lambda *_: asyncio.sleep(0, result=True),
            owner=lambda _: NotOwnerError.of("shard-000"),
        )
        for _ in range(2):
            try:
                epoch, view = held.view()
            except NotOwnerError:
                assert not takes
            else:
                assert (epoch, read_position(view)[0]) in ((1, FULL), (2, FULL + 1))
        held._close_view()

    asyncio.run(run())
    process.close()
