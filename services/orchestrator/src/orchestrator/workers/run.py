"""What running a plan means for chat completions and embeddings alike."""

from datetime import timedelta

from chassis.errors import ArgosyError, DeadlineExceeded, Unavailable

from orchestrator.workers.ports import WorkerClient


async def worker_unavailable(worker: WorkerClient, timeout: timedelta) -> ArgosyError | None:
    """Wait for a worker; return the error when none is ready in time: then nothing was started, and nothing used."""
    if not timeout:
        return DeadlineExceeded("the request ran out of time before a worker had it")
    try:
        await worker.wait_ready(timeout)
    except Unavailable as error:
        return error
    return None
