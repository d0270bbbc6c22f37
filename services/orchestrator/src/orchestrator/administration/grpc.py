"""The gRPC service of routes: they are managed here, because a dry run reads what requests read."""

from typing import Any, Final

from argosy.orchestration.v1 import routes_pb2 as pb
from argosy.orchestration.v1.routes_pb2_grpc import RouteServiceServicer, add_RouteServiceServicer_to_server
from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from chassis.ids import new_id
from chassis.tenancy import Principal
from values.roles import MEMBER, current_platform_admin

from orchestrator.chat.resolve import DryRun, Resolution, ResolvedCandidate, resolve
from orchestrator.configuration.grpc import current_edit
from orchestrator.flags.snapshot import FlagCache
from orchestrator.routing.manage import ManageRoutes
from orchestrator.routing.model import ALL_TENANTS, Route
from orchestrator.routing.protos import TASK_TO_PROTO, proto_to_document, stored_to_proto

MAX_BODY_BYTES: Final = 1_000_000


class RouteServicer(RouteServiceServicer):
    """Operators change routes, and ask what they would do."""

    def __init__(self, manage: ManageRoutes, flags: FlagCache, clock: Clock) -> None:
        self._manage = manage
        self._flags = flags
        self._clock = clock

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Any) -> pb.ListRoutesResponse:
        current_platform_admin()
        return pb.ListRoutesResponse(routes=map(stored_to_proto, await self._manage.list(request.tenant_id)))

    async def GetRoute(self, request: pb.GetRouteRequest, context: Any) -> pb.GetRouteResponse:
        current_platform_admin()
        return pb.GetRouteResponse(route=stored_to_proto(await self._manage.get(request.tenant_id, request.model)))

    async def PutRoute(self, request: pb.PutRouteRequest, context: Any) -> pb.PutRouteResponse:
        edit, document = current_edit(request.reason), proto_to_document(request.document)
        expected = request.expected_version if request.HasField("expected_version") else None
        stored = await self._manage.put(request.tenant_id, request.model, document, edit, expected_version=expected)
        return pb.PutRouteResponse(route=stored_to_proto(stored))

    async def DeleteRoute(self, request: pb.DeleteRouteRequest, context: Any) -> pb.DeleteRouteResponse:
        await self._manage.delete(request.tenant_id, request.model, current_edit(request.reason))
        return pb.DeleteRouteResponse()

    async def ResolveRoute(self, request: pb.ResolveRouteRequest, context: Any) -> pb.ResolveRouteResponse:
        current_platform_admin()
        if len(request.body) > MAX_BODY_BYTES:
            raise InvalidRequest(f"A body that is tried has at most {MAX_BODY_BYTES} bytes.", param="body")
        owner, route = await self._route(request)
        principal = Principal(request.tenant_id, roles=frozenset({MEMBER}), plan=request.plan)
        request_id = request.request_id or new_id("req_")
        run = DryRun(principal, request.model, request.body, stream=request.stream, request_id=request_id)
        known, priced = self._manage.cache.measures, await self._manage.facts.priced()
        return resolution_to_proto(owner, resolve(run, route, self._flags.snapshot(), known, priced))

    async def _route(self, request: pb.ResolveRouteRequest) -> tuple[str, Route]:
        """Return the route to try, and whose it is."""
        if not request.document:
            return self._manage.cache.table().owned(request.tenant_id, request.model)
        document = proto_to_document(request.document)
        entry = await self._manage.checked(ALL_TENANTS, request.model, document)
        return ALL_TENANTS, entry.to_route(self._clock.now())


def resolution_to_proto(owner: str, resolution: Resolution) -> pb.ResolveRouteResponse:
    return pb.ResolveRouteResponse(
        tenant_id=owner,
        task=TASK_TO_PROTO[resolution.task],
        candidates=map(candidate_to_proto, resolution.candidates),
        flags=resolution.flags,
    )


def candidate_to_proto(one: ResolvedCandidate) -> pb.ResolvedCandidate:
    return pb.ResolvedCandidate(
        upstream=one.candidate.upstream,
        model=one.candidate.model,
        role=one.candidate.role.value,
        position=one.position,
        reason=one.reason,
        code=one.code,
        priced=one.priced,
    )


def registration(servicer: RouteServicer) -> Registration:
    return add_RouteServiceServicer_to_server, servicer, "argosy.orchestration.v1.RouteService"
