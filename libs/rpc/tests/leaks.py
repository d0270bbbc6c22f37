"""Counts of the objects that the exchange keeps for calls: after a test they must be as before."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.grpc.pipeline import IN_FLIGHT as HANDLED
from rpc import client_stream, server
from rpc.client_call import ClientCall
from rpc.metrics import IN_FLIGHT, STREAMS
from rpc.server_call import ServerCall


def gauges() -> dict[str, float]:
    """The values of the gauges."""
    samples = [
        sample for metric in (STREAMS, IN_FLIGHT, HANDLED) for family in metric.collect() for sample in family.samples
    ]
    return {f"{sample.name} {sample.labels}": sample.value for sample in samples}


def held() -> dict[str, float]:
    """All counts that grow with calls and streams."""
    gc.collect()
    kinds = Counter(type(thing) for thing in gc.get_objects() if type(thing) in (ClientCall, ServerCall))
    return {**counted(), "call objects": kinds[ClientCall], "answering objects": kinds[ServerCall]}


def counted() -> dict[str, float]:
    """Counts that are cheap to read."""
    return {
        **gauges(),
        "client streams": len(client_stream.OPEN_STREAMS),
        "server streams": len(server.OPEN_STREAMS),
        "tasks": len(asyncio.all_tasks()),
    }


def larger(now: dict[str, float], before: dict[str, float]) -> dict[str, tuple[float, float]]:
    """The counts that are larger than before, as (before, now)."""
    return {name: (before.get(name, 0), value) for name, value in now.items() if value > before.get(name, 0)}


async def until_back_to(before: dict[str, float], seconds: float = 30.0) -> None:
    """Wait until no count is larger than before; the failure names those that are.

    Smaller ones are none of ours: what an earlier test left was collected meanwhile.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    while larger(counted(), before) or larger(held(), before):
        if loop.time() > due:
            more = larger(held(), before)
            raise AssertionError(f"left over, as (before, now): {more}; {sorted(map(str, asyncio.all_tasks()))}")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def no_leak() -> AsyncIterator[None]:
    """Check that nothing of the block's calls is left after it."""
    before = held()
    yield
    await until_back_to(before)
