"""Atlas is killed before and after each of its steps: nothing that lives is lost, and the next pass
finishes what was begun.

Steps are what leaves a trace: what a writer is asked, a hole that is made, a file that is renamed,
unlinked or appears in its folder.
"""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from objectstore_app.atlas.work import Work
from objectstore_app.media import local_segments
from objectstore_app.media.store import Store
from objectstore_app.metadata_service import bases

from .atlas_store import (
    DATA,
    OLD_S,
    Held,
    atlas,
    disk_bytes,
    large,
    small,
    stopped_and_checked,
)
from .processes import WriterProcess

PASSES = ("gc", "compact", "orphans", "uploads")
STEPS_MAX = 400


class Steps:
    """Counts steps; kills this process before number `die_before`."""

    def __init__(self, die_before: int) -> None:
        self._die_before = die_before
        self._done = 0

    def step(self) -> None:
        self._done += 1
        if self._done == self._die_before:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Take over the calls that leave a trace, in this process; it dies soon."""
        ask = Work.ask
        rename, unlink, truncate = os.rename, os.unlink, os.truncate
        sync = bases.sync_folder

        async def asked(self_: Work, *what: object) -> object:
            self.step()
            answer = await ask(self_, *what)
            self.step()
            return answer

        def stepwise(call: object) -> object:
            def called(*arguments: object) -> object:
                self.step()
                result = call(*arguments)
                self.step()
                return result

            return called

        Work.ask = asked
        local_segments.punch = stepwise(local_segments.punch)
        os.rename = stepwise(rename)
        os.unlink = stepwise(unlink)
        os.truncate = stepwise(truncate)
        for module in (bases, local_segments):
            module.sync_folder = stepwise(sync)


def killed_at(store: Store, number: int) -> bool:
    """Run all passes in a process that is killed before step `number`; false when it lived."""
    pid = os.fork()
    if pid == 0:
        Steps(number).watch()
        asyncio.run(atlas(store, PASSES, later_s=OLD_S))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.timeout(300)
def test_killed_at_any_step_loses_nothing_and_the_next_pass_finishes(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(store)

    async def load(begin: int) -> None:
        """Some more objects, overwrites and deletes, so that each pass has something to do."""
        await held.put({b"s%04d" % n: small(n) for n in range(begin, begin + 80)})
        await held.put({b"l%d" % (n % 5): large(n) for n in range(begin, begin + 3)})
        doomed = [key for key in sorted(held.objects) if key.startswith(b"s")]
        await held.delete([key for n, key in enumerate(doomed) if n % 3])
        await held.cut_off(large(begin))

    asyncio.run(held.create())
    number, process = 0, writer
    for number in range(1, STEPS_MAX):
        if number % 2 == 1:
            asyncio.run(load(number))
        if not killed_at(store, number):
            break
        asyncio.run(held.verify())
        if number % 10 == 0:
            report = stopped_and_checked(store, process)
            assert report.clean, (number, report.findings)
            if number % 20 == 0:
                # All that a power loss may take: the view. The base and the log make it anew.
                store.view(DATA).unlink()
            process = WriterProcess(store)
            asyncio.run(held.verify())
    assert 20 < number < STEPS_MAX
    asyncio.run(atlas(store, PASSES, later_s=OLD_S))
    asyncio.run(held.verify())
    report = stopped_and_checked(store, process)
    assert report.findings == []
    live = sum(map(len, held.objects.values()))
    assert disk_bytes(store) < live + 512 * 1024
