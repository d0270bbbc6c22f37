"""Lists models over gRPC."""

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.protos import timestamp_to_proto
from values.roles import current_member

from orchestrator.flags.snapshot import FlagCache
from orchestrator.flags.switches import is_model_on
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import TASK_TO_FEATURE, Route
from orchestrator.routing.protos import TASK_TO_PROTO


def list_models(routes: RouteCache, flags: FlagCache) -> pb.ListModelsResponse:
    """List the models that the caller's tenant may use, without those that are switched off for it."""
    caller, switches = current_member(), flags.snapshot()
    return pb.ListModelsResponse(
        models=[
            _route_to_proto(route)
            for route in routes.table().visible(caller.tenant_id)
            if is_model_on(switches, TASK_TO_FEATURE[route.task], route.model, route.candidates, caller)
        ]
    )


def _route_to_proto(route: Route) -> pb.Model:
    created_at = timestamp_to_proto(route.created_at)
    return pb.Model(name=route.model, created_at=created_at, task=TASK_TO_PROTO[route.task])
