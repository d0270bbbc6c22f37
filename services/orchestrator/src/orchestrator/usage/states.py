"""What has become of requests: metering asks before it takes a reservation whose lease has run out."""

from collections.abc import Sequence
from enum import StrEnum

from orchestrator.background_tasks import BackgroundTasks, RequestKey
from orchestrator.usage.ports import RunningJobs, UsageOutbox


class RequestState(StrEnum):
    """What is known of a request."""

    UNKNOWN = "unknown"
    """Nothing: it never was here, it died with its process, or its usage has been published."""
    RUNNING = "running"
    """This process answers it, or has its usage to write; or it is a run of a job, on any worker."""
    USAGE_PENDING = "usage_pending"
    """Its usage is written, by any process, and waits to be published."""


async def request_states(
    requests: Sequence[RequestKey], *, tasks: BackgroundTasks, outbox: UsageOutbox, jobs: RunningJobs
) -> list[RequestState]:
    """Return the state of each request. Raises `Unavailable`."""
    # In this order: a request that stops running in between has written its usage before.
    running = {request for request in requests if tasks.is_running(request)}
    others = set(requests) - running
    if others:
        running |= await jobs.running_requests(others)
        others -= running
    pending = await outbox.find_pending(others) if others else set()
    return [
        RequestState.RUNNING
        if request in running
        else RequestState.USAGE_PENDING
        if request in pending
        else RequestState.UNKNOWN
        for request in requests
    ]
