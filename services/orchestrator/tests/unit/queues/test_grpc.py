"""The gRPC service of queues."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import QueueServiceStub
from chassis.errors import ArgosyError, Kind
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from orchestrator.jobs.model import JobState
from orchestrator.queues.grpc import QueueServicer, registration
from orchestrator.queues.model import PauseSelector

from services.orchestrator.tests.job_fakes import FakeJobReader, a_job
from services.orchestrator.tests.queue_fakes import BATCH, INTERACTIVE, FakeQueueStore

ADMIN = a_caller(a_principal("ten_platform", roles=("platform_admin",)))


class Queues:
    """A served service, and what is behind it."""

    def __init__(self) -> None:
        self.store = FakeQueueStore(BATCH, INTERACTIVE)
        self.jobs = FakeJobReader()
        self.resumed = 0
        self.stub: Any = None

    def resume(self) -> None:
        self.resumed += 1


@asynccontextmanager
async def serve() -> AsyncIterator[Queues]:
    queues = Queues()
    # What is decided about a quarantined job is tested with a store that keeps its rules.
    servicer = QueueServicer(queues.store, queues.jobs, cast("Any", None), queues.resume)
    async with serving(registration(servicer)) as channel:
        queues.stub = QueueServiceStub(channel)
        yield queues


@pytest.fixture
async def queues() -> AsyncIterator[Queues]:
    async with serve() as queues:
        with as_caller(ADMIN):
            yield queues


async def test_queues_are_listed_with_their_figures(queues: Queues) -> None:
    response = await queues.stub.ListQueues(pb.ListQueuesRequest())

    batch, interactive = response.queues
    assert (batch.pool, batch.lane, batch.queued, batch.dispatched) == ("default", pb.JOB_LANE_BATCH, 30, 4)
    assert (batch.running, batch.queued_tokens, batch.slots, batch.tenants) == (2, 3_000, 16, 3)
    assert (batch.oldest_wait.seconds, batch.work_seconds) == (90, 75)
    assert not interactive.HasField("oldest_wait")
    assert interactive.HasField("work_seconds")


async def test_a_pause_is_made_listed_and_ended_and_the_dispatcher_is_woken(queues: Queues) -> None:
    selector = pb.QueueSelector(tenant_id="ten_1", model="smollm2")
    await queues.stub.PauseQueue(pb.PauseQueueRequest(selector=selector))
    assert list((await queues.stub.ListQueues(pb.ListQueuesRequest())).paused) == [selector]
    assert list(await queues.store.list_pauses()) == [PauseSelector("ten_1", "", "smollm2")]
    assert queues.resumed == 0

    await queues.stub.ResumeQueue(pb.ResumeQueueRequest(selector=selector))

    assert (list(await queues.store.list_pauses()), queues.resumed) == ([], 1)


async def test_a_pause_of_everything_by_accident_is_refused(queues: Queues) -> None:
    with pytest.raises(ArgosyError) as refused:
        await queues.stub.PauseQueue(pb.PauseQueueRequest())

    assert refused.value.kind is Kind.INVALID
    assert not await queues.store.list_pauses()


async def test_quarantined_jobs_are_listed_page_by_page(queues: Queues) -> None:
    for number in range(5):
        queues.jobs.put(a_job(JobState.QUARANTINED, tenant_id=f"ten_{number % 2}", job_id=f"job_{number}"))
    queues.jobs.put(a_job(job_id="job_9"))

    first = await queues.stub.ListAllJobs(pb.ListAllJobsRequest(limit=3))
    second = await queues.stub.ListAllJobs(pb.ListAllJobsRequest(limit=3, after=first.jobs[-1].id))
    of_one = await queues.stub.ListAllJobs(pb.ListAllJobsRequest(tenant_id="ten_1"))

    assert ([job.id for job in first.jobs], first.has_more) == (["job_4", "job_3", "job_2"], True)
    assert ([job.id for job in second.jobs], second.has_more) == (["job_1", "job_0"], False)
    assert [job.id for job in of_one.jobs] == ["job_3", "job_1"]


async def test_a_job_is_inspected_without_the_answer_of_its_tenant(queues: Queues) -> None:
    queues.jobs.put(a_job(JobState.SUCCEEDED, result=b"secret", worker_id="wkr_1", epoch=4))

    response = await queues.stub.InspectJob(pb.InspectJobRequest(tenant_id="ten_1", job_id="job_1"))

    assert (response.job.id, response.job.result, response.worker_id, response.epoch) == ("job_1", b"", "wkr_1", 4)
    with pytest.raises(ArgosyError) as unknown:
        await queues.stub.InspectJob(pb.InspectJobRequest(tenant_id="ten_2", job_id="job_1"))
    assert unknown.value.reason == "JOB_NOT_FOUND"


@pytest.mark.parametrize("roles", [("member",), ("service",), ()])
async def test_only_an_admin_may_call(roles: tuple[str, ...]) -> None:
    async with serve() as queues:
        with as_caller(a_caller(a_principal(roles=roles))):
            for call in (
                queues.stub.ListQueues(pb.ListQueuesRequest()),
                queues.stub.PauseQueue(pb.PauseQueueRequest(selector=pb.QueueSelector(pool="default"))),
                queues.stub.ResumeQueue(pb.ResumeQueueRequest(selector=pb.QueueSelector(pool="default"))),
                queues.stub.ListAllJobs(pb.ListAllJobsRequest()),
                queues.stub.InspectJob(pb.InspectJobRequest(tenant_id="ten_1", job_id="job_1")),
                queues.stub.RetryJob(pb.RetryJobRequest(tenant_id="ten_1", job_id="job_1")),
                queues.stub.DropJob(pb.DropJobRequest(tenant_id="ten_1", job_id="job_1")),
            ):
                with pytest.raises(ArgosyError) as refused:
                    await call
                assert refused.value.kind is Kind.DENIED
        assert not await queues.store.list_pauses()
