"""Many wishes, few calls."""

import asyncio
from datetime import timedelta

from orchestrator.adapters.gathered import Gathered


async def test_wishes_of_one_moment_are_one_call_and_later_ones_another():
    calls: list[int] = []
    called = asyncio.Event()

    def call() -> None:
        calls.append(1)
        called.set()

    wish = Gathered(call, timedelta(0))
    for _ in range(5):
        wish()
    await called.wait()
    first = len(calls)
    called.clear()
    wish()
    await called.wait()

    assert (first, len(calls)) == (1, 2)
