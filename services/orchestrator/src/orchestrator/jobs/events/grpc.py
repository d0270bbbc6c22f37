"""`JobService.WatchJob`."""

from contextlib import aclosing
from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from values.roles import current_member

from orchestrator.jobs.events.protos import event_to_proto
from orchestrator.jobs.events.watch import JobWatcher
from orchestrator.jobs.model import JobKey


async def watch_job(watcher: JobWatcher, request: pb.WatchJobRequest, context: Any) -> None:
    """Write the events of a job of the caller's tenant. The first message has none: it says that there will be some."""
    key = JobKey(current_member().tenant_id, request.job_id)
    events = await watcher.open(key, request.after_event_id)
    if events is None:
        return
    await context.write(pb.WatchJobResponse())
    async with aclosing(events):
        async for event in events:
            await context.write(event_to_proto(event))


class StopWatches:
    """A component whose `stop` ends all watches. List it after the gRPC server, which would wait for them."""

    name = "job-watches"

    def __init__(self, watcher: JobWatcher) -> None:
        self._watcher = watcher

    async def start(self) -> None:
        """Do nothing: calls start watches."""

    async def stop(self) -> None:
        self._watcher.stop()
