"""The orchestrator's faked over gRPC: what is sent, and what its errors become."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import jobs_pb2
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceServicer, add_JobRunServiceServicer_to_server
from chassis.errors import ArgosyError, InvalidRequest, Kind, RemoteError, Unavailable
from chassis.grpc import Channel
from chassis.tenancy import Principal, current_caller
from chassis.testing import a_signer, free_port
from chassis.testing.grpc import serving
from inference_worker.jobs.model import Embedding, LeaseLost, NotClaimable, NoWork, RunRef, RunResult, Unrunnable
from inference_worker.jobs.orchestrator_client import GrpcOrchestrator
from inference_worker.plans.model import Attempt, AttemptOutcome, AttemptStarting, Plan, Stopped
from values.usage import NO_USAGE
from worker_fakes import a_body

RUN = RunRef("ten_a", "job_1", 2)
ATTEMPT = Attempt(1, 0, AttemptOutcome.SUCCEEDED, NO_USAGE, None, timedelta(seconds=1))


class NotClaimableHere(ArgosyError, public=False):
    """As the orchestrator's own."""

    kind, reason = Kind.CONFLICT, "JOB_NOT_CLAIMABLE"


class LeaseLostHere(ArgosyError, public=False):
    """As the orchestrator's own."""

    kind, reason = Kind.CONFLICT, "JOB_LEASE_LOST"


class FakeJobRunServicer(JobRunServiceServicer):
    """Answers with what it was given, and records requests and callers."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_older = False
        """Whether it knows no pieces."""
        self.requests: list[Any] = []
        self.callers: list[tuple[Principal, str]] = []

    async def _handle(self, request: Any, empty: Any) -> Any:
        self.requests.append(request)
        caller = current_caller()
        caller.principal.require("service")
        self.callers.append((caller.principal, caller.request_id))
        if self.error is not None:
            raise self.error
        return self.answer if self.answer is not None else empty

    async def ClaimJob(self, request, context):
        return await self._handle(request, jobs_pb2.ClaimJobResponse())

    async def StartJobAttempt(self, request, context):
        return await self._handle(request, jobs_pb2.StartJobAttemptResponse())

    async def RecordHeartbeat(self, request, context):
        return await self._handle(request, jobs_pb2.RecordHeartbeatResponse())

    async def CompleteJob(self, request, context):
        return await self._handle(request, jobs_pb2.CompleteJobResponse())

    async def CompleteJobInPieces(self, requests, context):
        if self.is_older:
            raise NotImplementedError
        return await self._handle([one.piece async for one in requests], jobs_pb2.CompleteJobInPiecesResponse())

    async def ReturnJob(self, request, context):
        return await self._handle(request, jobs_pb2.ReturnJobResponse())

    async def StayConnected(self, request, context):
        yield await self._handle(request, jobs_pb2.StayConnectedResponse())

    async def FindUnclaimedJobs(self, request, context):
        return await self._handle(request, jobs_pb2.FindUnclaimedJobsResponse())


@pytest.fixture
def servicer() -> FakeJobRunServicer:
    return FakeJobRunServicer()


@asynccontextmanager
async def connected(servicer: FakeJobRunServicer) -> AsyncIterator[GrpcOrchestrator]:
    service = "argosy.orchestration.v1.JobRunService"
    async with serving((add_JobRunServiceServicer_to_server, servicer, service)) as channel:
        yield GrpcOrchestrator(channel, a_signer(), "worker_1", "premium")


def a_claim(**work: Any) -> jobs_pb2.ClaimJobResponse:
    run = jobs_pb2.JobRunRef(tenant_id="ten_a", job_id="job_1", epoch=2)
    claim = jobs_pb2.ClaimJobResponse(run=run, request_id="job_1.2", **work)
    claim.lease.FromSeconds(15)
    return claim


async def test_a_claim_names_the_dispatch_and_the_worker_and_gives_a_plan(servicer: FakeJobRunServicer):
    candidate = inference_pb2.Candidate(upstream="fake", model="m", body=a_body())
    servicer.answer = a_claim(chat=inference_pb2.Plan(candidates=[candidate], stream=True))
    async with connected(servicer) as orchestrator:
        claimed = await orchestrator.claim(RunRef("ten_a", "job_1", 1))

    (request,) = servicer.requests
    assert (request.worker_id, request.dispatch.job_id, request.dispatch.epoch) == ("worker_1", "job_1", 1)
    assert servicer.callers[0][0] == Principal("ten_a", roles=frozenset({"service"}))
    assert (claimed.ref, claimed.lease, claimed.request_id) == (RUN, timedelta(seconds=15), "job_1.2")
    assert isinstance(claimed.work, Plan)
    assert claimed.work.stream


async def test_a_claim_may_give_embeddings_with_several_candidates_or_nothing(servicer: FakeJobRunServicer):
    candidates = [inference_pb2.Candidate(upstream="fake", model=name) for name in "ab"]
    async with connected(servicer) as orchestrator:
        servicer.answer = a_claim(embed=inference_pb2.EmbedRequest(candidates=candidates, inputs=["x"], dimensions=3))
        embedding = (await orchestrator.claim(RUN)).work
        servicer.answer = a_claim(none=jobs_pb2.NoWork(reason="insufficient_quota"))
        nothing = (await orchestrator.claim(RUN)).work

    assert isinstance(embedding, Embedding)
    assert ([c.model for c in embedding.candidates], embedding.inputs, embedding.dimensions) == (["a", "b"], ("x",), 3)
    assert nothing == NoWork("insufficient_quota")


@pytest.mark.parametrize(
    "work",
    [
        {},
        {"chat": inference_pb2.Plan()},
        {"embed": inference_pb2.EmbedRequest(inputs=[""], candidates=[inference_pb2.Candidate()])},
    ],
)
async def test_work_that_cannot_be_read_is_claimed_all_the_same(servicer: FakeJobRunServicer, work: dict[str, Any]):
    servicer.answer = a_claim(**work)
    async with connected(servicer) as orchestrator:
        claimed = await orchestrator.claim(RUN)

    assert claimed.ref == RUN
    assert isinstance(claimed.work, Unrunnable)


async def test_refusals_become_their_own_errors_and_all_others_stay_what_they_are(servicer: FakeJobRunServicer):
    starting = AttemptStarting(2, 1, (ATTEMPT,))
    async with connected(servicer) as orchestrator:
        servicer.error = NotClaimableHere("it is finished")
        with pytest.raises(NotClaimable):
            await orchestrator.claim(RUN)
        servicer.error = LeaseLostHere("another run has it")
        for write in (
            orchestrator.start_attempt(RUN, starting),
            orchestrator.complete(RUN, RunResult((ATTEMPT,))),
            orchestrator.give_back(RUN, [ATTEMPT]),
        ):
            with pytest.raises(LeaseLost):
                await write
        servicer.error = Unavailable("the database does not answer")
        for call in (
            orchestrator.claim(RUN),
            orchestrator.heartbeat(1, [RUN]),
            orchestrator.complete(RUN, RunResult(())),
        ):
            with pytest.raises(ArgosyError) as caught:
                await call
            assert caught.value.kind is Kind.UNAVAILABLE
        servicer.error = InvalidRequest("too large")
        with pytest.raises(RemoteError, match="too large"):
            await orchestrator.complete(RUN, RunResult(()))


async def test_an_orchestrator_that_is_not_there_is_unavailable():
    async with Channel(f"127.0.0.1:{free_port()}", "orchestrator") as channel:
        orchestrator = GrpcOrchestrator(channel, a_signer(), "worker_1", "default")
        with pytest.raises(Unavailable):
            await orchestrator.claim(RUN)


async def test_what_is_written_carries_the_run_its_attempts_and_its_result(servicer: FakeJobRunServicer):
    async with connected(servicer) as orchestrator:
        await orchestrator.start_attempt(RUN, AttemptStarting(2, 1, (ATTEMPT,)))
        await orchestrator.complete(RUN, RunResult((ATTEMPT,), b"{}"))
        await orchestrator.complete(RUN, RunResult((), vectors=(b"\0\0\0\0",)))
        await orchestrator.complete(RUN, RunResult((ATTEMPT,), error=Stopped("the job was cancelled")))
        await orchestrator.give_back(RUN, [ATTEMPT])

    started, answered, embedded, failed, returned = servicer.requests
    assert (started.attempt.number, started.attempt.candidate, len(started.attempt.ended)) == (2, 1, 1)
    assert (answered.result, len(answered.attempts), answered.HasField("error")) == (b"{}", 1, False)
    assert [vector.float32 for vector in embedded.vectors] == [b"\0\0\0\0"]
    assert (failed.error.kind, failed.error.message) == ("cancelled", "the job was cancelled")
    assert (returned.run.epoch, len(returned.attempts)) == (2, 1)
    assert {request_id for _, request_id in servicer.callers} == {"job_1.2"}


async def test_vectors_of_more_than_one_message_are_written_in_pieces(servicer: FakeJobRunServicer):
    vectors = tuple(bytes([number]) * 65_536 for number in range(255)) * 2
    async with connected(servicer) as orchestrator:
        await orchestrator.complete(RUN, RunResult((ATTEMPT,), vectors=vectors))
        servicer.error = LeaseLostHere("another run has it")
        with pytest.raises(LeaseLost):
            await orchestrator.complete(RUN, RunResult((ATTEMPT,), vectors=vectors))

    pieces, _ = servicer.requests
    assert tuple(vector.float32 for piece in pieces for vector in piece.vectors) == vectors
    assert [len(piece.attempts) for piece in pieces] == [1, *[0] * (len(pieces) - 1)]
    assert pieces[0].run.epoch == 2


async def test_an_older_orchestrator_gets_vectors_in_one_message(servicer: FakeJobRunServicer):
    vectors = tuple(bytes([number]) * 65_536 for number in range(100))
    servicer.is_older = True
    async with connected(servicer) as orchestrator:
        await orchestrator.complete(RUN, RunResult((ATTEMPT,), vectors=vectors))

    (request,) = servicer.requests
    assert tuple(vector.float32 for vector in request.vectors) == vectors
    assert (len(request.attempts), request.run.epoch) == (1, 2)


async def test_a_heartbeat_is_of_no_tenant_and_says_what_to_stop(servicer: FakeJobRunServicer):
    other = RunRef("ten_b", "job_2", 4)
    message = jobs_pb2.JobRunRef(tenant_id="ten_b", job_id="job_2", epoch=4)
    servicer.answer = jobs_pb2.RecordHeartbeatResponse(lost=[message], cancelled=[])
    async with connected(servicer) as orchestrator:
        answer = await orchestrator.heartbeat(16, [RUN, other])

    (request,) = servicer.requests
    assert (request.worker_id, request.pool, request.slots, len(request.runs)) == ("worker_1", "premium", 16, 2)
    assert servicer.callers[0][0].tenant_id == "inference-worker"
    assert answer.lost == {other}
    assert not answer.cancelled


async def test_a_connection_is_of_this_worker_and_its_pool_and_ends_when_the_orchestrator_ends_it(
    servicer: FakeJobRunServicer,
):
    held: list[None] = []
    async with connected(servicer) as orchestrator:
        await orchestrator.stay_connected(lambda: held.append(None))

    assert [(request.worker_id, request.pool) for request in servicer.requests] == [("worker_1", "premium")]
    assert held == [None]
