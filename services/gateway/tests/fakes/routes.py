"""The orchestrator's routes, in memory."""

from typing import Any

import orjson
from argosy.orchestration.v1 import orchestration_pb2
from argosy.orchestration.v1 import routes_pb2 as pb
from argosy.orchestration.v1.routes_pb2_grpc import RouteServiceServicer
from chassis.errors import Kind, RemoteError


class FakeRoutes(RouteServiceServicer):
    """Keeps documents without checking them."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], pb.Route] = {}
        self.put: list[pb.PutRouteRequest] = []
        self.resolved: list[pb.ResolveRouteRequest] = []

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Any) -> pb.ListRoutesResponse:
        found = [route for (owner, _), route in sorted(self.routes.items()) if request.tenant_id in ("", owner)]
        return pb.ListRoutesResponse(routes=found)

    async def GetRoute(self, request: pb.GetRouteRequest, context: Any) -> pb.GetRouteResponse:
        return pb.GetRouteResponse(route=self._find(request.tenant_id, request.model))

    async def PutRoute(self, request: pb.PutRouteRequest, context: Any) -> pb.PutRouteResponse:
        self.put.append(request)
        route = pb.Route(
            tenant_id=request.tenant_id, model=request.model, document=request.document, version=len(self.put)
        )
        self.routes[request.tenant_id, request.model] = route
        return pb.PutRouteResponse(route=route)

    async def DeleteRoute(self, request: pb.DeleteRouteRequest, context: Any) -> pb.DeleteRouteResponse:
        self._find(request.tenant_id, request.model)
        del self.routes[request.tenant_id, request.model]
        return pb.DeleteRouteResponse()

    async def ResolveRoute(self, request: pb.ResolveRouteRequest, context: Any) -> pb.ResolveRouteResponse:
        self.resolved.append(request)
        tried = pb.ResolvedCandidate(
            upstream="a", model="1", role="primary", position=1, reason="in order", code="ordered", priced=True
        )
        passed_over = pb.ResolvedCandidate(
            upstream="b", model="1", role="primary", reason="it takes no tools", code="tools"
        )
        return pb.ResolveRouteResponse(
            tenant_id="*",
            task=orchestration_pb2.MODEL_TASK_CHAT,
            candidates=[tried, passed_over],
            flags={"upstream.b": "on"},
        )

    def documents(self) -> list[Any]:
        """What was put."""
        return [orjson.loads(request.document) for request in self.put]

    def _find(self, tenant_id: str, model: str) -> pb.Route:
        if (tenant_id, model) not in self.routes:
            raise RemoteError(Kind.NOT_FOUND, "ROUTE_NOT_FOUND", "There is no such route.", param="model")
        return self.routes[tenant_id, model]
