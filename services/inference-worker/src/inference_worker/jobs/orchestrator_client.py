"""The orchestrator's door for workers, over gRPC."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

from argosy.orchestration.v1 import jobs_pb2
from argosy.orchestration.v1.jobs_pb2_grpc import JobRunServiceStub
from chassis.errors import RemoteError
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from values.roles import SERVICE

from inference_worker.jobs.model import (
    ClaimedJob,
    HeartbeatAnswer,
    LeaseLost,
    NotClaimable,
    Offer,
    RunRef,
    RunResult,
)
from inference_worker.jobs.protos import (
    proto_to_claimed_job,
    proto_to_heartbeat_answer,
    proto_to_offer,
    result_to_protos,
    return_to_proto,
    run_to_proto,
    starting_to_proto,
)
from inference_worker.plans.model import Attempt, AttemptStarting

# A claim prepares the request: it searches, and reserves.
CLAIM_TIMEOUT: Final = timedelta(seconds=15)
TIMEOUT: Final = timedelta(seconds=5)
# Less than the interval between two, so that one that hangs delays no other.
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=4)
# With a result of up to 15 MiB.
COMPLETE_TIMEOUT: Final = timedelta(seconds=15)
# The orchestrator ends it after half of this time, and it is made anew.
CONNECTION_TIMEOUT: Final = timedelta(hours=2)

# With vectors that are many times larger, which the orchestrator renders as text.
PIECES_TIMEOUT: Final = timedelta(seconds=60)

WORKER: Final = Principal("inference-worker", roles=frozenset({SERVICE}))
"""Who sends heartbeats: no tenant, but a service that works for all of them."""

ENDS_A_RUN: Final = frozenset({"JOB_LEASE_LOST", "JOB_NOT_FOUND"})


class GrpcOrchestrator:
    """Implements `Orchestrator`; every call is made as a service that works for the job's tenant."""

    def __init__(self, channel: Channel, signer: PrincipalSigner, worker_id: str, pool: str) -> None:
        """`worker_id` is unique for this process."""
        self._stub: Any = JobRunServiceStub(channel)
        self._signer = signer
        self._worker_id = worker_id
        self._pool = pool

    def caller(self, tenant_id: str, request_id: str = "") -> Caller:
        """Return who runs a job of a tenant: providers are called and logs written in its name."""
        principal = Principal(tenant_id, roles=frozenset({SERVICE}))
        return Caller(principal, self._signer.sign(principal), request_id or new_id("req_"))

    async def claim(self, dispatch: RunRef, *, unanswered_before: bool = False) -> ClaimedJob:
        request = jobs_pb2.ClaimJobRequest(
            dispatch=run_to_proto(dispatch), worker_id=self._worker_id, unanswered_before=unanswered_before
        )
        with as_caller(self.caller(dispatch.tenant_id)):
            try:
                response = await self._stub.ClaimJob(request, timeout=CLAIM_TIMEOUT.total_seconds())
            except RemoteError as error:
                if error.reason == "JOB_NOT_CLAIMABLE":
                    raise NotClaimable(error.message) from error
                raise
        return proto_to_claimed_job(response)

    async def find_unclaimed(self, slots: int, free_slots: int) -> Sequence[Offer]:
        request = jobs_pb2.FindUnclaimedJobsRequest(pool=self._pool, slots=slots, free_slots=free_slots)
        with as_caller(Caller(WORKER, self._signer.sign(WORKER), new_id("req_"))):
            response = await self._stub.FindUnclaimedJobs(request, timeout=HEARTBEAT_TIMEOUT.total_seconds())
        return [proto_to_offer(offer) for offer in response.offers]

    async def stay_connected(self, on_connected: Callable[[], None]) -> None:
        request = jobs_pb2.StayConnectedRequest(worker_id=self._worker_id, pool=self._pool)
        with as_caller(Caller(WORKER, self._signer.sign(WORKER), new_id("req_"))):
            async for _ in self._stub.StayConnected(request, timeout=CONNECTION_TIMEOUT.total_seconds()):
                on_connected()

    async def start_attempt(self, run: RunRef, attempt: AttemptStarting) -> None:
        await self._write(run, self._stub.StartJobAttempt, starting_to_proto(run, attempt), TIMEOUT)

    async def heartbeat(self, slots: int, runs: Sequence[RunRef]) -> HeartbeatAnswer:
        request = jobs_pb2.RecordHeartbeatRequest(
            worker_id=self._worker_id, pool=self._pool, slots=slots, runs=map(run_to_proto, runs)
        )
        with as_caller(Caller(WORKER, self._signer.sign(WORKER), new_id("req_"))):
            response = await self._stub.RecordHeartbeat(request, timeout=HEARTBEAT_TIMEOUT.total_seconds())
        return proto_to_heartbeat_answer(response)

    async def complete(self, run: RunRef, result: RunResult) -> None:
        first, *others = result_to_protos(run, result)
        if not others:
            await self._write(run, self._stub.CompleteJob, first, COMPLETE_TIMEOUT)
            return
        pieces = (jobs_pb2.CompleteJobInPiecesRequest(piece=piece) for piece in (first, *others))
        try:
            await self._write(run, self._stub.CompleteJobInPieces, _each(pieces), PIECES_TIMEOUT)
        except RemoteError as error:
            if error.reason != "UNIMPLEMENTED":
                raise
            # An orchestrator of the version before: it takes all that one message can hold.
            for other in others:
                first.MergeFrom(other)
            await self._write(run, self._stub.CompleteJob, first, COMPLETE_TIMEOUT)

    async def give_back(self, run: RunRef, attempts: Sequence[Attempt]) -> None:
        await self._write(run, self._stub.ReturnJob, return_to_proto(run, attempts), TIMEOUT)

    async def _write(self, run: RunRef, method: Any, request: Any, timeout: timedelta) -> None:
        with as_caller(self.caller(run.tenant_id, f"{run.job_id}.{run.epoch}")):
            call: Awaitable[Any] = method(request, timeout=timeout.total_seconds())
            try:
                await call
            except RemoteError as error:
                if error.reason in ENDS_A_RUN:
                    raise LeaseLost(error.message) from error
                raise


async def _each(requests: Iterable[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request
