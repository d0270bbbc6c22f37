"""The connection by which an orchestrator sees that this process lives."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from chassis.errors import Unavailable
from inference_worker.jobs import connection, heartbeat
from inference_worker.jobs.connection import Connection
from inference_worker.jobs.heartbeat import Heartbeats
from job_fakes import FakedWorker


@asynccontextmanager
async def connecting(faked: FakedWorker):
    heartbeats, stop = Heartbeats(faked.worker, faked.orchestrator, faked.observer), asyncio.Event()
    running = asyncio.create_task(Connection(faked.orchestrator, heartbeats, faked.observer).run(stop))
    beating = asyncio.create_task(heartbeats.run(stop))
    try:
        yield
    finally:
        stop.set()
        heartbeats.wake()
        async with asyncio.timeout(30):
            await asyncio.gather(running, beating)


def connected(faked: FakedWorker, times: int) -> bool:
    return faked.orchestrator.calls.count("stay_connected") >= times


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 3600.0)


async def test_a_worker_connects_again_when_its_connection_ends():
    faked = FakedWorker()
    async with connecting(faked):
        await faked.orchestrator.until(lambda: connected(faked, 1))
        faked.orchestrator.disconnect.set()
        await faked.orchestrator.until(lambda: connected(faked, 2))

    assert faked.observer.retries == []


async def test_a_worker_that_is_connected_anew_says_at_once_that_it_lives():
    faked = FakedWorker()
    async with connecting(faked):
        await faked.orchestrator.until(lambda: connected(faked, 1) and len(faked.orchestrator.beats) >= 1)
        beats = len(faked.orchestrator.beats)
        faked.orchestrator.disconnect.set()
        await faked.orchestrator.until(lambda: connected(faked, 2) and len(faked.orchestrator.beats) > beats)


async def test_a_worker_that_cannot_connect_tries_again():
    faked = FakedWorker()
    faked.orchestrator.failures["stay_connected"] = [Unavailable("away"), Unavailable("away")]
    async with connecting(faked):
        await faked.orchestrator.until(lambda: connected(faked, 3))

    assert faked.observer.retries == [("stay_connected", "SERVICE_UNAVAILABLE")] * 2
