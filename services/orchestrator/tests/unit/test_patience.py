"""Waiting only so long."""

import asyncio
from datetime import timedelta

import pytest
from orchestrator.domain.patience import Patience

MOMENT = timedelta(milliseconds=1)


async def said(word: str) -> str:
    await asyncio.sleep(0)
    return word


async def fails() -> None:
    raise ZeroDivisionError


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_what_comes_in_time_is_returned_and_what_fails_raised():
    patience = Patience(timedelta(days=1))

    assert await asyncio.gather(*(patience.wait(said(word)) for word in "ab")) == ["a", "b"]
    with pytest.raises(ZeroDivisionError):
        await patience.wait(fails())


async def test_each_of_many_waits_only_so_long_and_can_go_on_after_it():
    patience = Patience(MOMENT)

    async def waits_in_vain() -> str:
        with pytest.raises(TimeoutError):
            await patience.wait(for_ever())
        return await patience.wait(said("on"))

    async with asyncio.timeout(5):
        assert await asyncio.gather(waits_in_vain(), waits_in_vain()) == ["on", "on"]
        # The timer is set again for those who come later.
        await asyncio.sleep(0.005)
        assert await waits_in_vain() == "on"


async def test_whoever_comes_while_others_wait_gets_the_whole_time():
    patience, clock = Patience(10 * MOMENT), asyncio.get_running_loop().time

    async def waited() -> float:
        started = clock()
        with pytest.raises(TimeoutError):
            await patience.wait(for_ever())
        return clock() - started

    first = asyncio.create_task(waited())
    await asyncio.sleep(0.005)

    assert min(await waited(), await first) >= 0.01


async def test_a_cancelled_task_is_cancelled_and_not_late():
    patience = Patience(timedelta(days=1))
    waiting = asyncio.create_task(patience.wait(for_ever()))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_task_that_is_cancelled_when_it_is_late_is_cancelled():
    async def cancelled_meanwhile() -> None:
        try:
            await for_ever()
        finally:
            waiting.cancel()

    waiting = asyncio.create_task(Patience(MOMENT).wait(cancelled_meanwhile()))

    with pytest.raises(asyncio.CancelledError):
        await waiting
