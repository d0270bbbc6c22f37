"""Feature flags in the orchestrator, over gRPC."""

from typing import Any

import orjson
from argosy.orchestration.v1 import flags_pb2 as pb
from argosy.orchestration.v1.flags_pb2_grpc import FlagServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.flags.schemas import (
    FlagChangeList,
    FlagChangeRead,
    FlagDocument,
    FlagEvaluate,
    FlagEvaluationList,
    FlagEvaluationRead,
    FlagList,
    FlagPut,
    FlagRead,
)
from gateway.web.schemas import unix_seconds


class FlagsClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = FlagServiceStub(channel)

    async def list(self) -> FlagList:
        response = await self._stub.ListFlags(pb.ListFlagsRequest())
        return FlagList(data=map(proto_to_flag, response.flags))

    async def get(self, key: str) -> FlagRead:
        """Raises FLAG_NOT_FOUND."""
        return proto_to_flag((await self._stub.GetFlag(pb.GetFlagRequest(key=key))).flag)

    async def put(self, key: str, body: FlagPut) -> FlagRead:
        """Raises INVALID_REQUEST, FLAG_VERSION_CONFLICT."""
        document = body.model_dump(exclude={"reason", "version"})
        request = pb.PutFlagRequest(
            key=key, document=orjson.dumps(document), reason=body.reason, expected_version=body.version
        )
        return proto_to_flag((await self._stub.PutFlag(request)).flag)

    async def delete(self, key: str, reason: str) -> None:
        """Raises FLAG_NOT_FOUND, INVALID_REQUEST."""
        await self._change(key, pb.FLAG_ACTION_DELETE, reason)

    async def kill(self, key: str, reason: str) -> FlagRead:
        """Raises FLAG_NOT_FOUND, INVALID_REQUEST."""
        return proto_to_flag((await self._change(key, pb.FLAG_ACTION_KILL, reason)).flag)

    async def restore(self, key: str, reason: str) -> FlagRead:
        """Raises FLAG_NOT_FOUND."""
        return proto_to_flag((await self._change(key, pb.FLAG_ACTION_RESTORE, reason)).flag)

    async def roll_back(self, key: str, version: int, reason: str) -> FlagRead | None:
        """Return the flag; None when there was none at that version. Raises FLAG_NOT_FOUND, INVALID_REQUEST."""
        response = await self._change(key, pb.FLAG_ACTION_ROLL_BACK, reason, version)
        return proto_to_flag(response.flag) if response.HasField("flag") else None

    async def versions(self, key: str, limit: int, before: int) -> FlagChangeList:
        request = pb.ListFlagVersionsRequest(key=key, limit=limit, before=before)
        response = await self._stub.ListFlagVersions(request)
        return FlagChangeList(data=map(proto_to_change, response.changes), has_more=response.has_more)

    async def evaluate(self, body: FlagEvaluate, plan: str) -> FlagEvaluationList:
        """Raises FLAG_NOT_FOUND."""
        request = pb.EvaluateFlagsRequest(
            keys=body.keys, tenant_id=body.tenant_id, plan=plan, model=body.model, upstream=body.upstream
        )
        response = await self._stub.EvaluateFlags(request)
        return FlagEvaluationList(data=map(proto_to_evaluation, response.evaluations))

    async def check_feature(self, feature: str) -> None:
        """Raises FEATURE_DISABLED."""
        await self._stub.CheckFeature(pb.CheckFeatureRequest(feature=feature))

    async def _change(
        self, key: str, action: pb.FlagAction.ValueType, reason: str, version: int = 0
    ) -> pb.ChangeFlagResponse:
        request = pb.ChangeFlagRequest(key=key, action=action, reason=reason, version=version)
        return await self._stub.ChangeFlag(request)


def proto_to_flag(message: pb.Flag) -> FlagRead:
    fields: dict[str, Any] = orjson.loads(message.document)
    updated_at = unix_seconds(proto_to_timestamp(message.updated_at))
    return FlagRead(**fields, key=message.key, version=message.version, updated_at=updated_at)


def proto_to_change(message: pb.FlagChange) -> FlagChangeRead:
    return FlagChangeRead(
        version=message.version,
        before=_document(message.before),
        after=_document(message.after),
        author=message.author,
        reason=message.reason,
        changed_at=unix_seconds(proto_to_timestamp(message.changed_at)),
    )


def proto_to_evaluation(message: pb.FlagEvaluation) -> FlagEvaluationRead:
    return FlagEvaluationRead(
        key=message.key,
        variant=message.variant or None,
        value=orjson.loads(message.value),
        reason=message.reason,
    )


def _document(text: bytes) -> FlagDocument | None:
    return FlagDocument(**orjson.loads(text)) if text else None
