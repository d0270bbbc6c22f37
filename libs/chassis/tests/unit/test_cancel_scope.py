import asyncio
from collections.abc import Awaitable, Callable

import pytest
from chassis.aio import CancelScope, TimedOut


class Stopped(Exception):
    pass


def current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> str:
    return "done"


async def guarded(scope: CancelScope, work: Callable[[], Awaitable[str | None]], deadline: float) -> str | None:
    with scope.until(deadline):
        return await work()


async def test_work_within_its_deadline_returns_its_result() -> None:
    scope = CancelScope()

    assert await guarded(scope, at_once, scope.now() + 5) == "done"
    scope.close()


async def test_work_beyond_its_deadline_is_interrupted() -> None:
    scope = CancelScope()

    with pytest.raises(TimedOut):
        await guarded(scope, forever, scope.now() + 0.01)

    assert current().cancelling() == 0


async def test_a_deadline_in_the_past_starts_no_work() -> None:
    scope = CancelScope()
    started = []

    async def work() -> None:
        started.append(True)

    with pytest.raises(TimedOut):
        await guarded(scope, work, scope.now() - 1)

    assert started == []


async def test_a_later_block_with_an_earlier_deadline_is_interrupted_in_time() -> None:
    scope = CancelScope()
    await guarded(scope, at_once, scope.now() + 60)

    with pytest.raises(TimedOut):
        await asyncio.wait_for(guarded(scope, forever, scope.now() + 0.01), 30)


async def test_the_timer_of_an_earlier_block_does_not_interrupt_a_later_one() -> None:
    scope = CancelScope()
    await guarded(scope, at_once, scope.now() + 0.2)

    async def longer() -> str:
        await asyncio.sleep(0.3)
        return "done"

    assert await guarded(scope, longer, scope.now() + 5) == "done"
    scope.close()


async def test_a_timer_that_fires_between_blocks_is_set_again() -> None:
    scope = CancelScope()
    await guarded(scope, at_once, scope.now() + 0.2)
    await asyncio.sleep(0.3)

    with pytest.raises(TimedOut):
        await asyncio.wait_for(guarded(scope, forever, scope.now() + 0.01), 30)


async def test_cancel_interrupts_a_block_and_refuses_later_ones() -> None:
    scope = CancelScope()
    asyncio.get_running_loop().call_soon(scope.cancel, Stopped())

    with pytest.raises(Stopped):
        await guarded(scope, forever, scope.now() + 5)
    with pytest.raises(Stopped):
        await guarded(scope, at_once, scope.now() + 5)
    scope.close()


async def test_cancel_between_blocks_interrupts_nothing() -> None:
    scope = CancelScope()
    scope.cancel(Stopped())

    await asyncio.sleep(0)

    assert scope.cancelled


async def test_a_cancel_from_outside_goes_on() -> None:
    scope = CancelScope()
    task = asyncio.create_task(guarded(scope, forever, scope.now() + 5))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    scope.close()


async def test_a_cancel_from_outside_wins_over_a_cancel_of_the_scope_at_the_same_time() -> None:
    scope = CancelScope()
    task = asyncio.create_task(guarded(scope, forever, scope.now() + 5))
    await asyncio.sleep(0)

    scope.cancel(Stopped())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    scope.close()


@pytest.mark.parametrize("result", [at_once, None])
async def test_work_that_swallows_the_cancel_leaves_the_task_clean(result: Callable[[], Awaitable[str]] | None) -> None:
    scope = CancelScope()

    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            if result is None:
                raise OSError("closed") from None
        return "done"

    try:
        assert await guarded(scope, stubborn, scope.now() + 0.2) == "done"
    except OSError:
        assert result is None

    assert current().cancelling() == 0
    await asyncio.sleep(0)
