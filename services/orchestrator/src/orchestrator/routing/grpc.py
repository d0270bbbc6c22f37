"""Lists models over gRPC."""

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.protos import timestamp_to_proto
from values.roles import current_member

from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import Route, Task

_TASK_TO_PROTO = {Task.CHAT: pb.MODEL_TASK_CHAT, Task.EMBEDDING: pb.MODEL_TASK_EMBEDDING}


def list_models(routes: RouteCache) -> pb.ListModelsResponse:
    """List the models that the caller's tenant may use."""
    visible = routes.table().visible(current_member().tenant_id)
    return pb.ListModelsResponse(models=[_route_to_proto(route) for route in visible])


def _route_to_proto(route: Route) -> pb.Model:
    created_at = timestamp_to_proto(route.created_at)
    return pb.Model(name=route.model, created_at=created_at, task=_TASK_TO_PROTO[route.task])
