"""The gRPC service of flags."""

from typing import Any

import orjson
from argosy.orchestration.v1 import flags_pb2 as pb
from argosy.orchestration.v1.flags_pb2_grpc import FlagServiceServicer, add_FlagServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from values.roles import current_member, current_platform_admin

from orchestrator.configuration.grpc import current_edit
from orchestrator.flags.manage import ManageFlags
from orchestrator.flags.model import Feature, FlagContext, FlagNotFound, StoredFlag
from orchestrator.flags.protos import change_to_proto, proto_to_flag, stored_to_proto
from orchestrator.flags.provider import evaluate, openfeature_client
from orchestrator.flags.switches import require_feature

DEFAULT_VERSIONS, MAX_VERSIONS = 20, 100


class FlagServicer(FlagServiceServicer):
    """Operators change flags; every service asks for its features."""

    def __init__(self, manage: ManageFlags) -> None:
        self._manage = manage
        self._client = openfeature_client(manage.cache)

    async def ListFlags(self, request: pb.ListFlagsRequest, context: Any) -> pb.ListFlagsResponse:
        current_platform_admin()
        return pb.ListFlagsResponse(flags=map(stored_to_proto, await self._manage.store.list()))

    async def GetFlag(self, request: pb.GetFlagRequest, context: Any) -> pb.GetFlagResponse:
        current_platform_admin()
        return pb.GetFlagResponse(flag=stored_to_proto(await self._manage.get(request.key)))

    async def PutFlag(self, request: pb.PutFlagRequest, context: Any) -> pb.PutFlagResponse:
        edit = current_edit(request.reason)
        flag = proto_to_flag(request.key, request.document)
        expected = request.expected_version if request.HasField("expected_version") else None
        stored = await self._manage.put(flag, edit, expected_version=expected)
        return pb.PutFlagResponse(flag=stored_to_proto(stored))

    async def ChangeFlag(self, request: pb.ChangeFlagRequest, context: Any) -> pb.ChangeFlagResponse:
        edit, key = current_edit(request.reason), request.key
        stored: StoredFlag | None = None
        match request.action:
            case pb.FLAG_ACTION_DELETE:
                await self._manage.delete(key, edit)
            case pb.FLAG_ACTION_KILL:
                stored = await self._manage.kill(key, edit)
            case pb.FLAG_ACTION_RESTORE:
                stored = await self._manage.restore(key, edit)
            case pb.FLAG_ACTION_ROLL_BACK:
                stored = await self._manage.roll_back(key, request.version, edit)
            case _:
                raise InvalidRequest("The request names no action.", param="action")
        return pb.ChangeFlagResponse(flag=None if stored is None else stored_to_proto(stored))

    async def ListFlagVersions(self, request: pb.ListFlagVersionsRequest, context: Any) -> pb.ListFlagVersionsResponse:
        current_platform_admin()
        limit = min(request.limit or DEFAULT_VERSIONS, MAX_VERSIONS)
        found = await self._manage.versions(request.key, limit=limit + 1, before=request.before)
        changes = map(change_to_proto, found[:limit])
        return pb.ListFlagVersionsResponse(changes=changes, has_more=len(found) > limit)

    async def EvaluateFlags(self, request: pb.EvaluateFlagsRequest, context: Any) -> pb.EvaluateFlagsResponse:
        current_platform_admin()
        if not request.tenant_id:
            raise InvalidRequest("Flags are evaluated for a tenant.", param="tenant_id")
        given = FlagContext(request.tenant_id, request.plan, request.model, request.upstream)
        return pb.EvaluateFlagsResponse(
            evaluations=[self._evaluate(key, given) for key in request.keys or sorted(self._flags())]
        )

    async def CheckFeature(self, request: pb.CheckFeatureRequest, context: Any) -> pb.CheckFeatureResponse:
        try:
            feature = Feature(request.feature)
        except ValueError:
            raise InvalidRequest(f"There is no feature {request.feature!r}.", param="feature") from None
        require_feature(self._manage.cache.snapshot(), feature, current_member(), {})
        return pb.CheckFeatureResponse()

    def _flags(self) -> Any:
        return self._manage.cache.snapshot().flags

    def _evaluate(self, key: str, given: FlagContext) -> pb.FlagEvaluation:
        flag = self._flags().get(key)
        if flag is None:
            raise FlagNotFound(f"There is no flag {key!r}.", param="keys")
        details = evaluate(self._client, key, flag.type, given)
        return pb.FlagEvaluation(
            key=key,
            variant=details.variant or "",
            value=orjson.dumps(details.value),
            reason=str(details.reason),
        )


def registration(servicer: FlagServicer) -> Registration:
    return add_FlagServiceServicer_to_server, servicer, "argosy.orchestration.v1.FlagService"
