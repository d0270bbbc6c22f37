import asyncio
from collections.abc import Awaitable, Callable

import pytest
from inference_worker.domain.failures import Stopped
from inference_worker.domain.leash import Leash, Overdue


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> str:
    return "done"


async def hold(leash: Leash, work: Callable[[], Awaitable[str | None]], due: float) -> str | None:
    with leash.until(due):
        return await work()


async def test_work_that_is_done_in_time_is_passed_on():
    leash = Leash()

    assert await hold(leash, at_once, leash.now() + 5) == "done"
    leash.release()


async def test_work_that_is_overdue_is_broken_off():
    leash = Leash()

    with pytest.raises(Overdue):
        await hold(leash, forever, leash.now() + 0.01)

    assert asyncio.current_task().cancelling() == 0


async def test_a_due_time_in_the_past_does_not_begin():
    leash = Leash()
    begun = []

    async def work() -> None:
        begun.append(True)

    with pytest.raises(Overdue):
        await hold(leash, work, leash.now() - 1)

    assert begun == []


async def test_a_later_hold_that_is_due_earlier_is_broken_off_in_its_time():
    leash = Leash()
    await hold(leash, at_once, leash.now() + 60)

    with pytest.raises(Overdue):
        await asyncio.wait_for(hold(leash, forever, leash.now() + 0.01), 5)


async def test_a_bell_for_an_earlier_hold_does_not_break_a_later_one():
    leash = Leash()
    await hold(leash, at_once, leash.now() + 0.01)

    async def longer() -> str:
        await asyncio.sleep(0.03)
        return "done"

    assert await hold(leash, longer, leash.now() + 5) == "done"
    leash.release()


async def test_a_bell_that_rings_between_holds_is_set_again():
    leash = Leash()
    await hold(leash, at_once, leash.now() + 0.005)
    await asyncio.sleep(0.01)

    with pytest.raises(Overdue):
        await asyncio.wait_for(hold(leash, forever, leash.now() + 0.01), 5)


async def test_stop_breaks_a_hold_and_refuses_later_ones():
    leash = Leash()
    asyncio.get_running_loop().call_soon(leash.stop, Stopped())

    with pytest.raises(Stopped):
        await hold(leash, forever, leash.now() + 5)
    with pytest.raises(Stopped):
        await hold(leash, at_once, leash.now() + 5)
    leash.release()


async def test_stop_between_holds_interrupts_nothing():
    leash = Leash()
    leash.stop(Stopped())

    await asyncio.sleep(0)

    assert leash.stopped


async def test_a_cancel_from_outside_goes_on():
    leash = Leash()
    task = asyncio.create_task(hold(leash, forever, leash.now() + 5))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    leash.release()


async def test_a_cancel_from_outside_beats_a_stop_of_the_same_moment():
    leash = Leash()
    task = asyncio.create_task(hold(leash, forever, leash.now() + 5))
    await asyncio.sleep(0)

    leash.stop(Stopped())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    leash.release()


@pytest.mark.parametrize("ending", [at_once, None])
async def test_work_that_swallows_the_cancel_leaves_the_task_clean(ending: Callable[[], Awaitable[str]] | None):
    leash = Leash()

    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            if ending is None:
                raise OSError("closed") from None
        return "done"

    try:
        assert await hold(leash, stubborn, leash.now() + 0.005) == "done"
    except OSError:
        assert ending is None

    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)
