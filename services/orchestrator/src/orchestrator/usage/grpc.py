"""States of requests over gRPC."""

from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.errors import InvalidRequest
from chassis.tenancy import current_caller

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.usage.ports import RunningJobs, UsageOutbox
from orchestrator.usage.states import RequestState, request_states

MAX_REQUESTS = 1_000

_STATE_TO_PROTO = {
    RequestState.UNKNOWN: pb.REQUEST_STATE_UNKNOWN,
    RequestState.RUNNING: pb.REQUEST_STATE_RUNNING,
    RequestState.USAGE_PENDING: pb.REQUEST_STATE_USAGE_PENDING,
}


async def get_request_states(
    request: pb.GetRequestStatesRequest, *, tasks: BackgroundTasks, outbox: UsageOutbox, jobs: RunningJobs
) -> pb.GetRequestStatesResponse:
    """Return the states of requests of any tenant. Raises `PermissionDenied` without the role "service"."""
    current_caller().principal.require("service")
    if len(request.requests) > MAX_REQUESTS:
        raise InvalidRequest(f"at most {MAX_REQUESTS} requests", param="requests")
    keys = [(one.tenant_id, one.request_id) for one in request.requests]
    states = await request_states(keys, tasks=tasks, outbox=outbox, jobs=jobs)
    return pb.GetRequestStatesResponse(states=[_STATE_TO_PROTO[state] for state in states])
