"""What a shutdown does with jobs."""

from collections.abc import Callable
from datetime import timedelta

from inference_worker.jobs.heartbeat import Heartbeats
from inference_worker.jobs.worker import JobWorker


class JobDrain:
    """A lifecycle component that begins the drain of jobs, and returns; it is listed last, so that it stops first.

    From then on no job is taken, no slot is advertised, and the consumer leaves its group, so that other workers get
    its partitions at once. Runs have `return_after` to finish; then they are stopped and handed back.
    """

    name = "job-drain"

    def __init__(
        self,
        worker: JobWorker,
        heartbeats: Heartbeats,
        stop_taking: Callable[[], None],
        return_after: timedelta,
        exit_after: timedelta,
    ) -> None:
        self._worker = worker
        self._heartbeats = heartbeats
        self._stop_taking = stop_taking
        self._return_after = return_after
        self._exit_after = exit_after

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self._worker.begin_drain(self._return_after, self._exit_after)
        self._heartbeats.wake()
        self._stop_taking()
