"""Routes in the orchestrator, over gRPC."""

from typing import Any

import orjson
from argosy.orchestration.v1 import orchestration_pb2
from argosy.orchestration.v1 import routes_pb2 as pb
from argosy.orchestration.v1.routes_pb2_grpc import RouteServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.inference.model import Task
from gateway.routes.schemas import (
    ResolvedCandidate,
    RouteDocument,
    RouteList,
    RoutePut,
    RouteRead,
    RouteResolution,
    RouteResolve,
)
from gateway.web.schemas import unix_seconds

TASKS = {
    orchestration_pb2.MODEL_TASK_CHAT: Task.CHAT,
    orchestration_pb2.MODEL_TASK_EMBEDDING: Task.EMBEDDING,
    orchestration_pb2.MODEL_TASK_RERANK: Task.RERANK,
}


class RoutesClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RouteServiceStub(channel)

    async def list(self, tenant_id: str = "") -> RouteList:
        """List a tenant's own routes; those of all for an empty text."""
        response = await self._stub.ListRoutes(pb.ListRoutesRequest(tenant_id=tenant_id))
        return RouteList(data=map(proto_to_route, response.routes))

    async def get(self, model: str, tenant_id: str) -> RouteRead:
        """Raises ROUTE_NOT_FOUND."""
        request = pb.GetRouteRequest(tenant_id=tenant_id, model=model)
        return proto_to_route((await self._stub.GetRoute(request)).route)

    async def put(self, model: str, body: RoutePut) -> RouteRead:
        """Raises INVALID_REQUEST, UNKNOWN_UPSTREAM, UNPRICED_CANDIDATE, FALLBACK_CYCLE, ROUTE_VERSION_CONFLICT."""
        request = pb.PutRouteRequest(
            tenant_id=body.tenant_id,
            model=model,
            document=orjson.dumps(to_document(body)),
            reason=body.reason,
            expected_version=body.version,
        )
        return proto_to_route((await self._stub.PutRoute(request)).route)

    async def delete(self, model: str, tenant_id: str, reason: str) -> None:
        """Raises ROUTE_NOT_FOUND."""
        await self._stub.DeleteRoute(pb.DeleteRouteRequest(tenant_id=tenant_id, model=model, reason=reason))

    async def resolve(self, body: RouteResolve, plan: str) -> RouteResolution:
        """Raises MODEL_NOT_FOUND, INVALID_REQUEST, FEATURE_DISABLED, and what `put` raises for a route to try."""
        request = pb.ResolveRouteRequest(
            tenant_id=body.tenant_id,
            plan=plan,
            model=body.model,
            body=b"" if body.body is None else orjson.dumps(body.body),
            stream=body.stream,
            document=b"" if body.route is None else orjson.dumps(to_document(body.route)),
            request_id=body.request_id,
        )
        response = await self._stub.ResolveRoute(request)
        return RouteResolution(
            model=body.model,
            tenant_id=response.tenant_id,
            task=TASKS[response.task],
            candidates=map(proto_to_candidate, response.candidates),
            flags=dict(response.flags),
        )


def to_document(body: RouteDocument) -> dict[str, Any]:
    """What the orchestrator keeps: only what was set, for the rest has its default there."""
    return body.model_dump(mode="json", exclude={"reason", "version", "tenant_id"}, exclude_unset=True)


def proto_to_route(message: pb.Route) -> RouteRead:
    return RouteRead(
        **orjson.loads(message.document),
        model=message.model,
        tenant_id=message.tenant_id,
        version=message.version,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
    )


def proto_to_candidate(message: pb.ResolvedCandidate) -> ResolvedCandidate:
    return ResolvedCandidate(
        upstream=message.upstream,
        model=message.model,
        role=message.role,
        position=message.position or None,
        code=message.code,
        reason=message.reason,
        priced=message.priced,
    )
