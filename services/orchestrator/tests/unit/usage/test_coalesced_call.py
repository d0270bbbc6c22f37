"""Calls made within a delay become one."""

import asyncio
from datetime import timedelta

from orchestrator.usage.outbox import CoalescedCall


async def test_calls_of_one_moment_are_one_call_and_later_ones_another() -> None:
    calls: list[int] = []
    called = asyncio.Event()

    def call() -> None:
        calls.append(1)
        called.set()

    coalesced = CoalescedCall(call, timedelta(0))
    for _ in range(5):
        coalesced()
    await called.wait()
    first = len(calls)
    called.clear()
    coalesced()
    await called.wait()

    assert (first, len(calls)) == (1, 2)
