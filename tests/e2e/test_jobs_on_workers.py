"""Jobs through the queue: the orchestrator dispatches over Kafka, a worker claims, runs, and completes."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import asyncpg
import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobServiceStub
from chassis.clock import SystemClock
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240), pytest.mark.xdist_group("simulator")]

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
FINAL = {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_QUARANTINED}


class Jobs:
    """The jobs of one tenant."""

    def __init__(self, stub: Any, tenant_id: str) -> None:
        self.stub = stub
        self.tenant_id = tenant_id

    async def submit(self, model: str, endpoint: str = CHAT, **fields: Any) -> str:
        body: dict[str, Any] = {"model": model, **fields}
        if endpoint == CHAT:
            body = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 64, **body}
        request = pb.SubmitJobRequest(job_id=new_id("job_"), endpoint=endpoint, body=json.dumps(body).encode())
        return str((await self.stub.SubmitJob(request, timeout=30)).job.id)

    async def get(self, job_id: str) -> pb.Job:
        response = await self.stub.GetJob(pb.GetJobRequest(job_id=job_id), timeout=30)
        job: pb.Job = response.job
        return job

    async def until(self, job_id: str, states: Collection[int], seconds: float = 60) -> pb.Job:
        async with asyncio.timeout(seconds):
            while (job := await self.get(job_id)).state not in states:
                await asyncio.sleep(0.1)
        return job


@asynccontextmanager
async def jobs_of_a_tenant(fleet: Fleet) -> AsyncIterator[Jobs]:
    tenant_id, _ = await fleet.create_tenant("1")
    principal = Principal(tenant_id, "prj_jobs", "key_jobs", roles=frozenset({"member"}))
    token = PrincipalSigner(fleet.principal_secret, "gateway", SystemClock()).sign(principal)
    async with Channel(fleet.grpc_target("orchestrator"), "orchestrator") as channel:
        with as_caller(Caller(principal, token, new_id("req_"))):
            yield Jobs(JobServiceStub(channel), tenant_id)


async def add_model(fleet: Fleet, upstream_model: str, fallback: str | None = None) -> str:
    name = fleet.unique("jobs")
    await fleet.add_model(name, upstream_model=upstream_model, fallback=fallback)
    return name


def outcome_of(job: pb.Job) -> str:
    """What became of a job, for the message of a failed test."""
    state, error = pb.JobState.Name(job.state), job.error
    return f"{state}, {job.errors} errors, {job.crashes} crashes: {error.reason} {error.message}"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_job_succeeds_with_a_whole_answer(fleet: Fleet, *, stream: bool) -> None:
    model = await add_model(fleet, "instant")
    async with jobs_of_a_tenant(fleet) as jobs:
        job = await jobs.until(await jobs.submit(model, stream=stream), FINAL)

    assert job.state == pb.JOB_STATE_SUCCEEDED, outcome_of(job)
    answer = json.loads(job.result)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert job.usage.output_tokens > 0
    assert job.cost.nano_usd > 0
    assert (job.errors, job.crashes) == (0, 0)


async def test_embeddings_are_made_by_a_worker(fleet: Fleet) -> None:
    async with jobs_of_a_tenant(fleet) as jobs:
        job = await jobs.until(await jobs.submit("all-minilm-l6-v2", EMBEDDINGS, input=["a", "b"]), FINAL)

    assert job.state == pb.JOB_STATE_SUCCEEDED, outcome_of(job)
    assert [len(entry["embedding"]) for entry in json.loads(job.result)["data"]] == [384, 384]


@pytest.mark.degraded(down="provider", area="jobs", holds="the next candidate of the route answers the job")
async def test_the_next_candidate_answers_when_the_first_fails(fleet: Fleet) -> None:
    model = await add_model(fleet, "500?of=jobs", fallback="instant")
    async with jobs_of_a_tenant(fleet) as jobs:
        job = await jobs.until(await jobs.submit(model), FINAL)

    assert job.state == pb.JOB_STATE_SUCCEEDED, outcome_of(job)
    assert (job.errors, job.crashes) == (0, 0)


async def test_a_request_that_the_provider_rejects_fails_with_its_error(fleet: Fleet) -> None:
    model = await add_model(fleet, "400")
    async with jobs_of_a_tenant(fleet) as jobs:
        job = await jobs.until(await jobs.submit(model), FINAL)

    assert (job.state, job.error.reason) == (pb.JOB_STATE_FAILED, "UPSTREAM_REJECTED")


async def test_a_cancelled_job_stops_on_its_worker_and_what_it_used_is_settled(fleet: Fleet) -> None:
    model = await add_model(fleet, "paced?chunks=2000&interval=0.05")
    async with jobs_of_a_tenant(fleet) as jobs:
        job_id = await jobs.submit(model, stream=True)
        await jobs.until(job_id, {pb.JOB_STATE_RUNNING})
        await until_chunks(jobs, job_id)
        asked_at = monotonic()
        await jobs.stub.CancelJob(pb.CancelJobRequest(job_id=job_id), timeout=30)
        job = await jobs.until(job_id, FINAL)
        print(f"cancelled after {monotonic() - asked_at:.2f} s")

    assert job.state == pb.JOB_STATE_CANCELLED, outcome_of(job)
    assert job.usage.output_tokens > 0


async def until_chunks(jobs: Jobs, job_id: str) -> None:
    """Wait until a part of the answer has come to a watcher."""
    async with asyncio.timeout(60):
        async for event in jobs.stub.WatchJob(pb.WatchJobRequest(job_id=job_id)):
            if event.WhichOneof("event") == "delta":
                return


async def test_who_watches_a_streamed_job_gets_its_answer_while_it_is_written_and_its_end(fleet: Fleet) -> None:
    model = await add_model(fleet, "paced?chunks=20&interval=0.1")
    texts, states = [], []
    async with jobs_of_a_tenant(fleet) as jobs:
        job_id = await jobs.submit(model, stream=True)
        async for event in jobs.stub.WatchJob(pb.WatchJobRequest(job_id=job_id)):
            if event.WhichOneof("event") == "delta":
                for payload in event.delta.payloads:
                    texts += [choice["delta"].get("content") or "" for choice in json.loads(payload)["choices"]]
            elif event.WhichOneof("event") == "job":
                states.append(event.job.state)
        job = await jobs.get(job_id)

    assert states[-1] == pb.JOB_STATE_SUCCEEDED, outcome_of(job)
    assert len(texts) >= 20
    assert "".join(texts) == json.loads(job.result)["choices"][0]["message"]["content"]


async def test_a_hundred_jobs_are_run_and_settled_once_each(fleet: Fleet) -> None:
    model = await add_model(fleet, "instant")
    async with jobs_of_a_tenant(fleet) as jobs:
        started = monotonic()
        ids = await asyncio.gather(*(jobs.submit(model) for _ in range(100)))
        submitted = monotonic()
        ended = [await jobs.until(job_id, FINAL) for job_id in ids]
        print(f"100 jobs: submitted in {submitted - started:.2f} s, all ended after {monotonic() - started:.2f} s")

        assert {job.state for job in ended} == {pb.JOB_STATE_SUCCEEDED}, [
            outcome_of(job) for job in ended if job.error.reason
        ]
        assert {(job.errors, job.crashes) for job in ended} == {(0, 0)}
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        async with asyncio.timeout(60):
            while await settlements(connection, jobs.tenant_id) < 100:
                await asyncio.sleep(0.2)
        assert await settlements(connection, jobs.tenant_id) == 100
    finally:
        await connection.close()


async def settlements(connection: asyncpg.Connection, tenant_id: str) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM metering.settlements WHERE tenant_id = $1", tenant_id))
