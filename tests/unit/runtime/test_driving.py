"""Coroutines that run without a task, by the callbacks of what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from objectstore_app.runtime.driving import Driven, Operation

Work = Callable[[], Operation]


async def drive(work: Work) -> bool:
    """As a connection does it, from a plain callback of the loop, where there is no task. True
    when the coroutine ended without waiting.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bool] = loop.create_future()

    def start() -> None:
        coroutine = work()
        try:
            waited = coroutine.send(None)
        except StopIteration:
            ended.set_result(True)
        else:
            Driven(loop, coroutine, lambda: ended.set_result(False)).wait(waited)

    loop.call_soon(start)
    return await asyncio.wait_for(ended, 5)


def test_what_does_not_wait_ends_at_once() -> None:
    seen = []

    async def work() -> None:
        seen.append(asyncio.current_task())

    assert asyncio.run(drive(work)) is True
    assert seen == [None]


def test_what_waits_goes_on_with_the_results_and_without_a_task() -> None:
    seen: list[object] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for number in (7, 8):
            future = loop.create_future()
            loop.call_soon(future.set_result, number)
            seen.append(await future)
            await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    assert asyncio.run(drive(work)) is False
    assert seen == [7, 8, None]


def test_what_runs_in_threads_and_tasks_is_waited_for() -> None:
    seen: list[object] = []

    async def one() -> int:
        await asyncio.sleep(0.001)
        return 1

    async def work() -> None:
        loop = asyncio.get_running_loop()
        seen.append(await asyncio.shield(loop.run_in_executor(None, lambda: 2)))
        seen.extend(await asyncio.gather(one(), one(), return_exceptions=True))

    assert asyncio.run(drive(work)) is False
    assert seen == [2, 1, 1]


def test_error_of_what_is_waited_for_is_raised_inside() -> None:
    seen = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("no"))
        try:
            await future
        except ValueError as error:
            seen.append(str(error))

    asyncio.run(drive(work))
    assert seen == ["no"]


def test_cancellation_of_what_is_waited_for_ends_the_coroutine() -> None:
    seen = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    assert asyncio.run(drive(work)) is False
    assert seen == ["cancelled"]


@pytest.mark.parametrize("waits", [1, 2])
def test_error_that_nobody_handles_is_told_to_the_loop(waits: int) -> None:
    told: list[object] = []

    async def work() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise ValueError("unforeseen")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def hear(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
            told.append(str(context["exception"]))
            heard.set()

        loop.set_exception_handler(hear)
        ended: list[bool] = []
        coroutine = work()
        Driven(loop, coroutine, lambda: ended.append(True)).wait(coroutine.send(None))
        await asyncio.wait_for(heard.wait(), 5)
        assert not ended

    asyncio.run(main())
    assert told == ["unforeseen"]
