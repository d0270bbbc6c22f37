"""Stays connected to an orchestrator, which sees by it at once when this process has died."""

import asyncio

from chassis.aio import wait_or_stop
from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError

from inference_worker.jobs.heartbeat import Heartbeats
from inference_worker.jobs.model import NO_RUN
from inference_worker.jobs.ports import JobObserver, Orchestrator

RECONNECT_SECONDS = 0.2


class Connection:
    """The body of a loop. The connection is with one replica; when that stops, the next one is with another."""

    def __init__(self, orchestrator: Orchestrator, heartbeats: Heartbeats, observer: JobObserver) -> None:
        self._orchestrator = orchestrator
        self._heartbeats = heartbeats
        self._observer = observer

    async def run(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=RECONNECT_SECONDS, max_seconds=5.0)
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                connected = asyncio.create_task(self._orchestrator.stay_connected(self._heartbeats.wake))
                try:
                    await asyncio.wait({connected, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if connected.done():
                        connected.result()
                        backoff.reset()
                except ArgosyError as error:
                    self._observer.retried(NO_RUN, "stay_connected", error)
                finally:
                    connected.cancel()
                    await asyncio.gather(connected, return_exceptions=True)
                await wait_or_stop(stop, backoff.next())
        finally:
            stopping.cancel()
