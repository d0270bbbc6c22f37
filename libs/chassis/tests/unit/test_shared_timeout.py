"""One timeout for many tasks."""

import asyncio
from datetime import timedelta

import pytest
from chassis.aio import SharedTimeout

MOMENT = timedelta(milliseconds=1)


async def result(text: str) -> str:
    await asyncio.sleep(0)
    return text


async def fails() -> None:
    raise ZeroDivisionError


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_result_in_time_is_returned_and_an_error_raised() -> None:
    timeout = SharedTimeout(timedelta(days=1))

    assert await asyncio.gather(*(timeout.wait(result(text)) for text in "ab")) == ["a", "b"]
    with pytest.raises(ZeroDivisionError):
        await timeout.wait(fails())


async def test_each_of_many_tasks_times_out_and_can_go_on() -> None:
    timeout = SharedTimeout(MOMENT)

    async def times_out() -> str:
        with pytest.raises(TimeoutError):
            await timeout.wait(never())
        return await timeout.wait(result("on"))

    async with asyncio.timeout(30):
        assert list(await asyncio.gather(times_out(), times_out())) == ["on", "on"]
        # The timer is set again for later tasks.
        await asyncio.sleep(0.005)
        assert await times_out() == "on"


async def test_a_task_that_joins_others_gets_the_full_timeout() -> None:
    timeout, clock = SharedTimeout(10 * MOMENT), asyncio.get_running_loop().time

    async def waited_seconds() -> float:
        started = clock()
        with pytest.raises(TimeoutError):
            await timeout.wait(never())
        return clock() - started

    first = asyncio.create_task(waited_seconds())
    await asyncio.sleep(0.005)

    assert min(await waited_seconds(), await first) >= 0.01


async def test_a_cancelled_task_is_cancelled_and_not_timed_out() -> None:
    waiting = asyncio.create_task(SharedTimeout(timedelta(days=1)).wait(never()))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_task_that_is_cancelled_while_it_times_out_is_cancelled() -> None:
    async def cancelled_meanwhile() -> None:
        try:
            await never()
        finally:
            waiting.cancel()

    waiting = asyncio.create_task(SharedTimeout(MOMENT).wait(cancelled_meanwhile()))

    with pytest.raises(asyncio.CancelledError):
        await waiting
