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


async def until_back_to(before: dict[str, float], seconds: float = 30.0) -> None:
    """Wait until all counts are as before; the failure names those that are not."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    while not (counted().items() <= before.items() and held() == before):
        if loop.time() > due:
            more = {name: (before[name], value) for name, value in held().items() if value != before[name]}
            raise AssertionError(f"left over, as (before, now): {more}; {sorted(map(str, asyncio.all_tasks()))}")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def no_leak() -> AsyncIterator[None]:
    """Check that nothing of the block's calls is left after it."""
    before = held()
    yield
    await until_back_to(before)
