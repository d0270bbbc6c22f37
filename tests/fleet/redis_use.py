"""Tests that freeze the fleet's Redis, and tests that need it, in other processes: never at the same time."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.faults import frozen
from tests.fleet.client import Fleet
from tests.fleet.environment import STATE


@asynccontextmanager
async def running_redis() -> AsyncIterator[None]:
    """Keep other tests from freezing Redis: for what has no other source, as the deltas of jobs."""
    async with _locked(fcntl.LOCK_SH):
        yield


@asynccontextmanager
async def frozen_redis(fleet: Fleet) -> AsyncIterator[None]:
    """Freeze Redis as soon as no test is in `running_redis`."""
    async with _locked(fcntl.LOCK_EX), frozen(fleet.pid_of("redis")):
        yield


@asynccontextmanager
async def _locked(mode: int) -> AsyncIterator[None]:
    with (STATE / "redis-use.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, mode)
        yield
