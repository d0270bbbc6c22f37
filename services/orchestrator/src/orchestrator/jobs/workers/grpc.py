"""The queue door of workers, over gRPC."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from argosy.orchestration.v1 import jobs_pb2 as pb
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceServicer, add_JobRunServiceServicer_to_server
from chassis.errors import ArgosyError, Internal, InvalidRequest
from chassis.grpc import Registration
from chassis.in_flight import InFlightLimit
from chassis.tenancy import current_caller
from values.limits import MAX_VECTOR_BYTES
from values.protos import proto_to_error
from values.roles import SERVICE

from orchestrator.jobs.claim import Claims
from orchestrator.jobs.complete import Runs
from orchestrator.jobs.errors import JobResultTooLarge
from orchestrator.jobs.offers.connections import MAX_HOLD_SECONDS, WorkerConnections
from orchestrator.jobs.policy import JobPolicy
from orchestrator.jobs.protos import LANE_TO_PROTO, STATE_TO_PROTO, proto_to_run, run_to_proto
from orchestrator.jobs.rounds import Room
from orchestrator.metrics import JOB_CLAIM_SECONDS, JOB_VECTORS_REFUSED
from orchestrator.workers.model import Plan
from orchestrator.workers.protos import (
    embedding_plan_to_proto,
    fill_plan,
    proto_to_attempts,
    proto_to_starting,
)

POOL = re.compile(r"[a-z0-9][a-z0-9-]{0,30}", re.ASCII)
"""Part of the names of topics."""
MAX_RUNS = 10_000
MAX_WORKER_ID = 128


class JobRunServicer(JobRunServiceServicer):
    """Runs of jobs of all tenants. Every method needs the role "service"."""

    def __init__(self, *, claims: Claims, runs: Runs, policy: JobPolicy, connections: WorkerConnections) -> None:
        self._claims = claims
        self._runs = runs
        self._policy = policy
        self._connections = connections
        # As text, vectors take about six times the memory. A worker that is refused tries again.
        self._vectors = InFlightLimit(
            "bytes of vectors of jobs",
            MAX_VECTOR_BYTES,
            MAX_VECTOR_BYTES,
            on_refused=lambda _scope: JOB_VECTORS_REFUSED.inc(),
        )

    async def ClaimJob(self, request: pb.ClaimJobRequest, context: Any) -> pb.ClaimJobResponse:
        _require_service()
        worker_id = _worker_id(request.worker_id)
        with JOB_CLAIM_SECONDS.time():
            claimed = await self._claims.claim(
                proto_to_run(request.dispatch), worker_id, unanswered_before=request.unanswered_before
            )
        response = pb.ClaimJobResponse(run=run_to_proto(claimed.run), request_id=claimed.run.request_id)
        response.lease.FromTimedelta(self._policy.lease)
        if claimed.work is None:
            response.none.reason = claimed.reason
        elif isinstance(claimed.work.plan, Plan):
            # Filled in place: the plan holds the bodies.
            fill_plan(claimed.work.plan, response.chat)
        else:
            response.embed.CopyFrom(embedding_plan_to_proto(claimed.work.plan))
        return response

    async def FindUnclaimedJobs(
        self, request: pb.FindUnclaimedJobsRequest, context: Any
    ) -> pb.FindUnclaimedJobsResponse:
        _require_service()
        _check_pool(request.pool)
        if not 0 <= request.free_slots <= request.slots <= MAX_RUNS:
            raise InvalidRequest(f"a worker has at most {MAX_RUNS} slots, and no more free ones", param="free_slots")
        offers = await self._runs.offers(request.pool, Room(request.slots, request.free_slots))
        return pb.FindUnclaimedJobsResponse(
            offers=[pb.JobOffer(dispatch=run_to_proto(one.dispatch), lane=LANE_TO_PROTO[one.lane]) for one in offers]
        )

    async def StayConnected(  # type: ignore[override]  # it writes to the context
        self, request: pb.StayConnectedRequest, context: Any
    ) -> None:
        _require_service()
        _check_pool(request.pool)
        worker_id = _worker_id(request.worker_id)
        seconds = request.hold.ToTimedelta().total_seconds() if request.HasField("hold") else MAX_HOLD_SECONDS
        await context.write(pb.StayConnectedResponse())
        await self._connections.hold(worker_id, request.pool, seconds)

    async def StartJobAttempt(self, request: pb.StartJobAttemptRequest, context: Any) -> pb.StartJobAttemptResponse:
        _require_service()
        await self._runs.start_attempt(proto_to_run(request.run), proto_to_starting(request.attempt))
        return pb.StartJobAttemptResponse()

    async def RecordHeartbeat(self, request: pb.RecordHeartbeatRequest, context: Any) -> pb.RecordHeartbeatResponse:
        _require_service()
        _check_pool(request.pool)
        if len(request.runs) > MAX_RUNS or request.slots < 0:
            raise InvalidRequest(f"a worker has slots, and at most {MAX_RUNS} runs", param="runs")
        runs = [proto_to_run(run) for run in request.runs]
        beat = await self._runs.heartbeat(_worker_id(request.worker_id), request.pool, request.slots, runs)
        return pb.RecordHeartbeatResponse(
            lost=map(run_to_proto, beat.lost), cancelled=map(run_to_proto, beat.cancelled)
        )

    async def CompleteJob(self, request: pb.CompleteJobRequest, context: Any) -> pb.CompleteJobResponse:
        _require_service()
        return await self._complete(request, [vector.float32 for vector in request.vectors])

    async def CompleteJobInPieces(
        self, request_iterator: AsyncIterator[pb.CompleteJobInPiecesRequest], context: Any
    ) -> pb.CompleteJobInPiecesResponse:
        _require_service()
        first: pb.CompleteJobRequest | None = None
        vectors: list[bytes] = []
        size = 0
        with self._vectors.reserve(current_caller().principal.tenant_id, 0) as in_flight:
            async for request in request_iterator:
                first = first or request.piece
                piece = [vector.float32 for vector in request.piece.vectors]
                size += sum(map(len, piece))
                if size > MAX_VECTOR_BYTES:
                    raise JobResultTooLarge(f"the vectors of a job may have {MAX_VECTOR_BYTES} bytes in all")
                in_flight.grow_to(size)
                vectors += piece
            if first is None:
                raise InvalidRequest("the call has no request")
            return pb.CompleteJobInPiecesResponse(response=await self._complete(first, vectors))

    async def _complete(self, request: pb.CompleteJobRequest, vectors: Sequence[bytes]) -> pb.CompleteJobResponse:
        answer: bytes | Sequence[bytes] | ArgosyError
        if request.HasField("error"):
            answer = proto_to_error(request.error)
        elif vectors:
            answer = vectors
        else:
            answer = request.result or Internal("the worker reported the end of a run without an answer")
        state = await self._runs.complete(proto_to_run(request.run), proto_to_attempts(request.attempts), answer)
        return pb.CompleteJobResponse(state=STATE_TO_PROTO[state])

    async def ReturnJob(self, request: pb.ReturnJobRequest, context: Any) -> pb.ReturnJobResponse:
        _require_service()
        await self._runs.give_back(proto_to_run(request.run), proto_to_attempts(request.attempts))
        return pb.ReturnJobResponse()


def _require_service() -> None:
    current_caller().principal.require(SERVICE)


def _check_pool(pool: str) -> None:
    if POOL.fullmatch(pool) is None:
        raise InvalidRequest("pool is not a name of small letters, digits and dashes", param="pool")


def _worker_id(worker_id: str) -> str:
    if not 1 <= len(worker_id) <= MAX_WORKER_ID or not worker_id.isprintable():
        raise InvalidRequest(f"worker_id is not a text of 1 to {MAX_WORKER_ID} characters", param="worker_id")
    return worker_id


def run_registration(servicer: JobRunServicer) -> Registration:
    return add_JobRunServiceServicer_to_server, servicer, "argosy.orchestration.v1.JobRunService"
