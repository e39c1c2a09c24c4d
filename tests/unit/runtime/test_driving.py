"""Coroutines that run without a task until they first wait, and go on in one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from objectstore_app.runtime.driving import Started, inside_task


def start(coroutine: Coroutine[object, None, None]) -> asyncio.Task[None] | None:
    """As a connection does it: None when the coroutine ended without waiting."""
    try:
        waited = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(Started(coroutine, waited))


async def outside(function: object, *arguments: object) -> object:
    """Call from a plain callback of the loop, where there is no task."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()
    loop.call_soon(lambda: done.set_result(function(*arguments)))  # type: ignore[operator]
    return await done


def test_what_does_not_wait_needs_no_task() -> None:
    seen = []

    async def work() -> None:
        seen.append(asyncio.current_task())

    assert asyncio.run(outside_of(work)) is None
    assert seen == [None]


async def outside_of(work: object) -> object:
    task = await outside(lambda: start(work()))  # type: ignore[operator]
    if isinstance(task, asyncio.Task):
        await asyncio.wait([task])
    return task


def test_what_waits_goes_on_with_the_result() -> None:
    seen = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        seen.append(await future)
        await asyncio.sleep(0)
        seen.append(asyncio.current_task() is not None)

    asyncio.run(outside_of(work))
    assert seen == [7, True]


def test_error_of_what_is_waited_for_is_raised_inside() -> None:
    seen = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("no"))
        try:
            await future
        except ValueError as error:
            seen.append(str(error))

    asyncio.run(outside_of(work))
    assert seen == ["no"]


def test_cancellation_reaches_the_coroutine() -> None:
    seen = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        task = await outside(lambda: start(work()))
        assert isinstance(task, asyncio.Task)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert seen == ["cancelled"]


@pytest.mark.parametrize("first", [True, False])
def test_groups_and_timeouts_work_once_inside_a_task(first: bool) -> None:
    seen = []

    async def work() -> None:
        if not first:
            await asyncio.sleep(0)
        await inside_task()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        seen.append("done")

    asyncio.run(outside_of(work))
    assert seen == ["done"]
