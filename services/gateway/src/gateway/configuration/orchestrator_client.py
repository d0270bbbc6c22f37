"""The log of changes in the orchestrator, over gRPC."""

from typing import Any

import orjson
from argosy.orchestration.v1 import configuration_pb2 as pb
from argosy.orchestration.v1.configuration_pb2_grpc import ConfigurationServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.configuration.schemas import (
    ConfigurationChange,
    ConfigurationChangeList,
    ConfigurationDiff,
    ConfigurationObject,
    ConfigurationRollback,
    ConfigurationRolledBack,
)
from gateway.web.schemas import unix_seconds


class ConfigurationClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ConfigurationServiceStub(channel)

    async def changes(
        self, *, limit: int, before: int = 0, kind: str = "", tenant_id: str = "", name: str = ""
    ) -> ConfigurationChangeList:
        """List changes, the newest first; empty texts match all."""
        scope = pb.ConfigurationKey(kind=kind, tenant_id=tenant_id, name=name)
        request = pb.ListConfigurationChangesRequest(limit=limit, before_version=before, scope=scope)
        response = await self._stub.ListConfigurationChanges(request)
        return ConfigurationChangeList(data=map(proto_to_change, response.changes), has_more=response.has_more)

    async def diff(
        self, after: int, until: int | None, *, kind: str = "", tenant_id: str = "", name: str = ""
    ) -> ConfigurationDiff:
        """Raises CONFIGURATION_VERSION_UNKNOWN, INVALID_REQUEST."""
        scope = pb.ConfigurationKey(kind=kind, tenant_id=tenant_id, name=name)
        request = pb.DiffConfigurationRequest(from_version=after, to_version=until, scope=scope)
        response = await self._stub.DiffConfiguration(request)
        return ConfigurationDiff(data=map(proto_to_object, response.differences))

    async def roll_back(self, body: ConfigurationRollback) -> ConfigurationRolledBack:
        """Raises CONFIGURATION_VERSION_UNKNOWN, and what a write of the objects raises."""
        request = pb.RollbackConfigurationRequest(
            to_version=body.version,
            reason=body.reason,
            scope=pb.ConfigurationKey(kind=body.kind, tenant_id=body.tenant_id, name=body.name),
            dry_run=body.dry_run,
        )
        response = await self._stub.RollbackConfiguration(request)
        return ConfigurationRolledBack(
            version=response.version,
            restored=map(proto_to_object, response.restored),
            kept=map(proto_to_object, response.kept),
        )


def proto_to_change(message: pb.ConfigurationChange) -> ConfigurationChange:
    return ConfigurationChange(
        **_fields(message.difference),
        version=message.version,
        author=message.author,
        reason=message.reason,
        changed_at=unix_seconds(proto_to_timestamp(message.at)),
    )


def proto_to_object(message: pb.ConfigurationDifference) -> ConfigurationObject:
    return ConfigurationObject(**_fields(message))


def _fields(message: pb.ConfigurationDifference) -> dict[str, Any]:
    return {
        "kind": message.key.kind,
        "tenant_id": message.key.tenant_id,
        "name": message.key.name,
        "before": orjson.loads(message.before_json) if message.before_json else None,
        "after": orjson.loads(message.after_json) if message.after_json else None,
    }
