"""Cached answers go on in groups while many are given, and at once where one is alone."""

import asyncio

from orchestrator.response_cache.pace import Pace

FOR_EVER = 3600.0


async def settle() -> None:
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_are_alone_never_wait() -> None:
    pace = Pace(FOR_EVER)
    for _ in range(3):
        await pace.wait()


async def test_after_a_group_of_several_the_next_waits_and_takes_others_with_it() -> None:
    pace, went_on = Pace(0.01), list[str]()

    async def caller(name: str) -> None:
        await pace.wait()
        went_on.append(name)

    await asyncio.gather(*(caller(name) for name in "abc"))
    later = [asyncio.create_task(caller("d"))]
    await settle()
    later.append(asyncio.create_task(caller("e")))
    await settle()
    assert went_on == ["a", "b", "c"]
    await later[0]
    await settle()
    assert went_on == ["a", "b", "c", "d", "e"]
    await later[1]


async def test_a_caller_that_leaves_does_not_stop_the_others() -> None:
    pace = Pace(0.01)
    leaving, staying = (asyncio.create_task(pace.wait()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    # Both were a group, so the next one waits for the interval, and is not forgotten.
    await pace.wait()
