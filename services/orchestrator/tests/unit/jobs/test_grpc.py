"""Jobs as their tenants and the workers see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from argosy.common.v1.common_pb2 import USAGE_SOURCE_REPORTED, Error, TokenUsage
from argosy.inference.v1 import inference_pb2 as inference
from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceStub, JobServiceStub
from chassis.errors import Kind, RemoteError
from chassis.ids import new_id
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from orchestrator.jobs.grpc import JobServicer, job_registration, no_events
from orchestrator.jobs.offers.connections import WorkerConnections
from orchestrator.jobs.workers.grpc import JobRunServicer, run_registration

from services.orchestrator.tests.fake_idempotency import FakeIdempotencyKeys
from services.orchestrator.tests.in_memory_jobs.store import InMemoryJobStore
from services.orchestrator.tests.jobs_examples import BODY
from services.orchestrator.tests.jobs_harness import ANSWER, JobsHarness

MEMBER = a_principal()
WORKER = replace(MEMBER, tenant_id="fleet", roles=frozenset({"service"}))
ATTEMPT = inference.Attempt(
    number=1, usage=TokenUsage(source=USAGE_SOURCE_REPORTED, input_tokens=100, output_tokens=50)
)


@asynccontextmanager
async def tenants(jobs: JobsHarness, store: InMemoryJobStore) -> AsyncIterator[Any]:
    servicer = JobServicer(
        submissions=jobs.submissions,
        cancellations=jobs.cancellations,
        reader=store,
        watch=no_events,
        keys=FakeIdempotencyKeys(),
    )
    async with serving(job_registration(servicer)) as channel:
        with as_caller(a_caller(MEMBER)):
            yield JobServiceStub(channel)


@asynccontextmanager
async def workers(jobs: JobsHarness, principal: Any = WORKER) -> AsyncIterator[Any]:
    connections = WorkerConnections(jobs.push)
    servicer = JobRunServicer(claims=jobs.claims, runs=jobs.runs, policy=jobs.policy, connections=connections)
    async with serving(run_registration(servicer)) as channel:
        with as_caller(a_caller(principal)):
            yield JobRunServiceStub(channel)


def a_submission(**changes: Any) -> pb.SubmitJobRequest:
    fields: dict[str, Any] = {"job_id": new_id("job_"), "endpoint": "/v1/chat/completions", "body": BODY}
    return pb.SubmitJobRequest(**fields | changes)


async def test_a_job_is_submitted_read_listed_and_cancelled(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    async with tenants(jobs, store) as stub:
        submitted = (await stub.SubmitJob(a_submission(metadata={"a": "b"}, lane=pb.JOB_LANE_BATCH))).job
        read = (await stub.GetJob(pb.GetJobRequest(job_id=submitted.id))).job
        listed = await stub.ListJobs(pb.ListJobsRequest(limit=1, states=[pb.JOB_STATE_QUEUED]))
        cancelled = (await stub.CancelJob(pb.CancelJobRequest(job_id=submitted.id))).job
        with pytest.raises(RemoteError) as again:
            await stub.CancelJob(pb.CancelJobRequest(job_id=submitted.id))

    assert submitted == read
    assert (submitted.state, submitted.lane, dict(submitted.metadata)) == (
        pb.JOB_STATE_QUEUED,
        pb.JOB_LANE_BATCH,
        {"a": "b"},
    )
    assert ([job.id for job in listed.jobs], listed.has_more) == ([submitted.id], False)
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    assert cancelled.HasField("expires_at")
    assert (again.value.kind, again.value.reason) == (Kind.CONFLICT, "JOB_FINISHED")


async def test_errors_have_their_reasons(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    async with tenants(jobs, store) as stub:
        for call, reason in [
            (stub.SubmitJob(a_submission(endpoint="/v1/images")), "ENDPOINT_NOT_SUPPORTED"),
            (stub.SubmitJob(a_submission(lane=pb.JOB_LANE_INTERACTIVE)), "LANE_NOT_ALLOWED"),
            (stub.SubmitJob(a_submission(body=b"{}")), "INVALID_REQUEST"),
            (stub.GetJob(pb.GetJobRequest(job_id="job_1")), "JOB_NOT_FOUND"),
            (stub.ListJobs(pb.ListJobsRequest(limit=101)), "INVALID_REQUEST"),
        ]:
            with pytest.raises(RemoteError) as refused:
                await call
            assert refused.value.reason == reason


async def test_a_worker_runs_a_job(jobs: JobsHarness) -> None:
    job = (await jobs.submit()).job
    (dispatch,) = await jobs.dispatch()
    async with workers(jobs) as stub:
        claimed = await stub.ClaimJob(
            pb.ClaimJobRequest(dispatch=pb.JobRunRef(**dispatch._asdict()), worker_id="wkr_1")
        )
        beat = await stub.RecordHeartbeat(
            pb.RecordHeartbeatRequest(worker_id="wkr_1", pool="default", slots=4, runs=[claimed.run])
        )
        starting = inference.AttemptStarting(number=2, candidate=0, ended=[ATTEMPT])
        await stub.StartJobAttempt(pb.StartJobAttemptRequest(run=claimed.run, attempt=starting))
        completed = await stub.CompleteJob(pb.CompleteJobRequest(run=claimed.run, attempts=[ATTEMPT], result=ANSWER))

    assert claimed.WhichOneof("work") == "chat"
    assert claimed.chat.candidates[0].upstream == "local"
    assert claimed.request_id == f"{job.job_id}.{claimed.run.epoch}"
    assert claimed.lease.ToTimedelta() == jobs.policy.lease
    assert (list(beat.lost), list(beat.cancelled)) == ([], [])
    assert completed.state == pb.JOB_STATE_SUCCEEDED


async def test_vectors_of_a_run_arrive_in_pieces(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    body = b'{"model":"all-minilm-l6-v2","input":["a","b","c"],"encoding_format":"base64"}'
    claimed = await jobs.start(body=body, endpoint="/v1/embeddings")
    first = pb.CompleteJobRequest(run=pb.JobRunRef(**claimed.run._asdict()), attempts=[ATTEMPT])
    rest = [pb.CompleteJobRequest(vectors=[inference.Vector(float32=b"\0\0\x80?")] * count) for count in (1, 2)]

    async def pieces() -> AsyncIterator[pb.CompleteJobInPiecesRequest]:
        for piece in (first, *rest):
            yield pb.CompleteJobInPiecesRequest(piece=piece)

    async with workers(jobs) as stub:
        completed = (await stub.CompleteJobInPieces(pieces())).response
        repeated = (await stub.CompleteJobInPieces(pieces())).response

    assert completed.state == repeated.state == pb.JOB_STATE_SUCCEEDED
    job = await store.get(claimed.run.key)
    assert job is not None
    assert [one["embedding"] for one in json.loads(job.result)["data"]] == ["AACAPw=="] * 3


async def test_a_process_collects_a_bounded_number_of_bytes_of_vectors(
    jobs: JobsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose vectors find no room tries again; more than have room alone are refused for good."""
    monkeypatch.setattr("orchestrator.jobs.workers.grpc.MAX_VECTOR_BYTES", 8)
    body = b'{"model":"all-minilm-l6-v2","input":["a","b","c"]}'
    claimed = await jobs.start(body=body, endpoint="/v1/embeddings")
    run = pb.JobRunRef(**claimed.run._asdict())
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pieces(run: pb.JobRunRef, vectors: int) -> AsyncIterator[pb.CompleteJobInPiecesRequest]:
        yield pb.CompleteJobInPiecesRequest(piece=pb.CompleteJobRequest(run=run, attempts=[ATTEMPT]))
        for _ in range(vectors):
            vector = pb.CompleteJobRequest(vectors=[inference.Vector(float32=b"\0\0\x80?")])
            yield pb.CompleteJobInPiecesRequest(piece=vector)

    async def slow_pieces() -> AsyncIterator[pb.CompleteJobInPiecesRequest]:
        async for piece in pieces(run, 2):
            yield piece
        begun.set()
        await go_on.wait()

    async with workers(jobs) as stub:
        with pytest.raises(RemoteError) as too_many:
            await stub.CompleteJobInPieces(pieces(run, 3))
        slow = asyncio.ensure_future(stub.CompleteJobInPieces(slow_pieces()))
        await begun.wait()
        reason = "JOB_LEASE_LOST"
        while reason == "JOB_LEASE_LOST":  # until the pieces before have arrived
            with pytest.raises(RemoteError) as other:
                await stub.CompleteJobInPieces(pieces(pb.JobRunRef(tenant_id="ten_1", job_id="job_x", epoch=2), 1))
            reason = other.value.reason
        go_on.set()
        state = (await slow).response.state

    assert (too_many.value.kind, too_many.value.reason) == (Kind.TOO_LARGE, "JOB_RESULT_TOO_LARGE")
    assert reason == "TOO_MUCH_IN_FLIGHT"
    assert state == pb.JOB_STATE_SUCCEEDED


async def test_an_answer_that_no_message_holds_is_read_in_pieces(
    jobs: JobsHarness, store: InMemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = await jobs.start()
    await jobs.runs.complete(claimed.run, (), ANSWER)
    job_id = claimed.run.job_id
    async with tenants(jobs, store) as stub:
        before = (await stub.GetJob(pb.GetJobRequest(job_id=job_id))).job
        monkeypatch.setattr("orchestrator.jobs.protos.MAX_RESULT_BYTES", len(ANSWER) - 1)
        monkeypatch.setattr("orchestrator.jobs.grpc.PIECE_BYTES", 7)
        job = (await stub.GetJob(pb.GetJobRequest(job_id=job_id))).job
        pieces = [one.piece async for one in stub.ReadJobResult(pb.ReadJobResultRequest(job_id=job_id))]
        with pytest.raises(RemoteError) as unknown:
            await stub.ReadJobResult(pb.ReadJobResultRequest(job_id="job_none")).read()

    assert (before.result, before.result_bytes) == (ANSWER, len(ANSWER))
    assert (job.result, job.result_bytes) == (b"", len(ANSWER))
    assert b"".join(pieces) == ANSWER
    assert {len(piece) for piece in pieces[:-1]} == {7}
    assert unknown.value.reason == "JOB_NOT_FOUND"


async def test_a_run_that_fails_is_queued_again_and_a_stale_one_is_told(jobs: JobsHarness) -> None:
    claimed = await jobs.start()
    run = pb.JobRunRef(**claimed.run._asdict())
    async with workers(jobs) as stub:
        error = Error(kind="upstream", reason="UPSTREAM_UNAVAILABLE", message="down")
        state = (await stub.CompleteJob(pb.CompleteJobRequest(run=run, attempts=[ATTEMPT], error=error))).state
        await stub.ReturnJob(pb.ReturnJobRequest(run=run))
        with pytest.raises(RemoteError) as stale:
            await stub.ReturnJob(pb.ReturnJobRequest(run=pb.JobRunRef(tenant_id="ten_1", job_id="job_x", epoch=2)))

    assert state == pb.JOB_STATE_QUEUED
    assert stale.value.reason == "JOB_LEASE_LOST"


async def test_a_claim_without_money_has_no_work(jobs: JobsHarness) -> None:
    jobs.peers.metering.available = 0
    await jobs.submit()
    (dispatch,) = await jobs.dispatch()
    async with workers(jobs) as stub:
        claimed = await stub.ClaimJob(
            pb.ClaimJobRequest(dispatch=pb.JobRunRef(**dispatch._asdict()), worker_id="wkr_1")
        )

    assert claimed.none.reason == "INSUFFICIENT_QUOTA"


async def test_the_door_of_workers_is_for_services(jobs: JobsHarness) -> None:
    async with workers(jobs, MEMBER) as stub:
        for call in (
            stub.ClaimJob(pb.ClaimJobRequest()),
            stub.StartJobAttempt(pb.StartJobAttemptRequest()),
            stub.RecordHeartbeat(pb.RecordHeartbeatRequest()),
            stub.CompleteJob(pb.CompleteJobRequest()),
            stub.ReturnJob(pb.ReturnJobRequest()),
        ):
            with pytest.raises(RemoteError) as refused:
                await call
            assert refused.value.kind is Kind.DENIED


async def test_a_request_repeated_under_its_key_is_the_same_job(jobs: JobsHarness, store: InMemoryJobStore) -> None:
    async with tenants(jobs, store) as stub:

        async def submit(body: bytes = BODY, key: str = "abc") -> str:
            request = pb.SubmitJobRequest(
                job_id=new_id("job_"), endpoint="/v1/chat/completions", body=body, idempotency_key=key
            )
            return (await stub.SubmitJob(request)).job.id  # type: ignore[no-any-return]

        first = await submit()
        again, other = await submit(), await submit(key="abd")
        with pytest.raises(RemoteError) as reused:
            await submit(BODY + b" ")
        with pytest.raises(RemoteError) as malformed:
            await submit(key="a b")

    assert (first == again, first == other) == (True, False)
    assert (reused.value.kind, reused.value.reason) == (Kind.UNPROCESSABLE, "IDEMPOTENCY_KEY_REUSED")
    assert malformed.value.kind is Kind.INVALID


async def test_a_worker_stays_connected_until_it_leaves_or_its_time_is_over(jobs: JobsHarness) -> None:
    async with workers(jobs) as stub:
        short = pb.StayConnectedRequest(worker_id="wrk_1", pool="default")
        short.hold.FromMilliseconds(10)
        messages = [message async for message in stub.StayConnected(short)]
        unpublished = list(jobs.push_signals.ended_workers)
        call = stub.StayConnected(pb.StayConnectedRequest(worker_id="wrk_2", pool="default"))
        await anext(aiter(call))
        call.cancel()
        async with asyncio.timeout(30):
            while not jobs.push_signals.ended_workers:
                await asyncio.sleep(0.01)

    assert messages == [pb.StayConnectedResponse()]
    assert unpublished == []
    assert jobs.push_signals.ended_workers == ["wrk_2"]
