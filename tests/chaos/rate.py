"""A load at a fixed rate, independent of the responses, with start and end of each call."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.load import Load
from tests.fleet.client import Fleet

BUCKET_SECONDS, A_SECOND = 0.1, 10
STEADY_BUCKETS, STEADY_SHARE = 5, 0.8
"""The rate is steady while this many consecutive buckets have at least this share of it."""


@dataclass(slots=True)
class Call:
    """One call, by the monotonic clock."""

    started: float
    ended: float = math.inf
    succeeded: bool = False


@dataclass(slots=True)
class Calls:
    """Every call of a load."""

    rate: int
    """Calls a second."""
    load: Load = field(default_factory=Load)
    all: list[Call] = field(default_factory=list)

    def in_flight(self, at: float) -> int:
        """The number of calls in flight at a time."""
        return sum(call.started <= at < call.ended for call in self.all)

    def failed(self, since: float, wait_for: float) -> list[Call]:
        """The calls that failed between two times."""
        return [call for call in self.all if since <= call.ended < wait_for and not call.succeeded]

    def buckets(self, since: float, wait_for: float) -> list[int]:
        """Complete responses per 100 ms."""
        counts = [0] * round((wait_for - since) / BUCKET_SECONDS)
        for call in self.all:
            place = (call.ended - since) / BUCKET_SECONDS
            if call.succeeded and 0 <= place < len(counts):
                counts[int(place)] += 1
        return counts

    def steady_after(self, since: float, wait_for: float) -> float:
        """Seconds after `since` from which the rate was steady for a second; infinity if it never was."""
        counts = self.buckets(since, wait_for)
        least = STEADY_SHARE * self.rate * BUCKET_SECONDS * STEADY_BUCKETS
        enough = [
            sum(counts[place : place + STEADY_BUCKETS]) >= least for place in range(len(counts) - STEADY_BUCKETS + 1)
        ]
        windows = A_SECOND - STEADY_BUCKETS + 1
        for place in range(len(enough) - windows + 1):
            if all(enough[place : place + windows]):
                return place * BUCKET_SECONDS
        return math.inf


@asynccontextmanager
async def fixed_rate(fleet: Fleet, model: str, rate: int) -> AsyncIterator[Calls]:
    """Send `rate` requests a second until the block ends, every second one streamed; then wait for all responses."""
    calls, stop, running = Calls(rate), asyncio.Event(), set[asyncio.Task[None]]()
    bodies = [
        json.dumps(
            {"model": model, "max_tokens": 32, "stream": streamed, "messages": [{"role": "user", "content": "go on"}]}
        ).encode()
        for streamed in (True, False)
    ]
    headers = fleet.as_tenant | {"content-type": "application/json"}
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(fleet.base_url, headers=headers, connector=connector, timeout=timeout) as http:

        async def one(number: int) -> None:
            call = Call(time.monotonic())
            calls.all.append(call)
            try:
                async with http.post("/v1/chat/completions", data=bodies[number % 2]) as answer:
                    text = await answer.text()
                    call.succeeded = calls.load.record(answer.status, answer.headers, text, streamed=number % 2 == 0)
            except aiohttp.ClientError:
                calls.load.disconnected += 1
            call.ended = time.monotonic()

        async def keep_pace() -> None:
            number, due = 0, time.monotonic()
            while not stop.is_set():
                while due <= time.monotonic():
                    running.add(task := asyncio.create_task(one(number)))
                    task.add_done_callback(running.discard)
                    number, due = number + 1, due + 1 / rate
                await asyncio.sleep(due - time.monotonic())

        pace = asyncio.create_task(keep_pace())
        try:
            yield calls
        finally:
            stop.set()
            await pace
            await asyncio.gather(*running)
