"""The gRPC service of the configuration's log. Every method needs the role `platform_admin`."""

from typing import Any, Final

from argosy.orchestration.v1 import configuration_pb2 as pb
from argosy.orchestration.v1.configuration_pb2_grpc import (
    ConfigurationServiceServicer,
    add_ConfigurationServiceServicer_to_server,
)
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from values.roles import current_platform_admin

from orchestrator.configuration.model import ChangeFilter, Edit, author_of, check_edit
from orchestrator.configuration.ports import Configuration
from orchestrator.configuration.protos import change_to_proto, difference_to_proto, proto_to_scope, rollback_to_proto
from orchestrator.configuration.rollback import History

MAX_LIMIT: Final = 100


def current_edit(reason: str) -> Edit:
    """Return who calls, and why. Raises PrincipalInvalid, PermissionDenied, InvalidRequest."""
    return check_edit(author_of(current_platform_admin()), reason)


class ConfigurationServicer(ConfigurationServiceServicer):
    def __init__(self, configuration: Configuration, history: History) -> None:
        self._configuration = configuration
        self._history = history

    async def ListConfigurationChanges(
        self, request: pb.ListConfigurationChangesRequest, context: Any
    ) -> pb.ListConfigurationChangesResponse:
        current_platform_admin()
        limit = request.limit or 20
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest(f"The limit is from 1 to {MAX_LIMIT}.", param="limit")
        scope = request.scope
        wanted = ChangeFilter(limit + 1, request.before_version, scope.kind, scope.tenant_id, scope.name)
        changes = await self._configuration.list_changes(wanted)
        return pb.ListConfigurationChangesResponse(
            changes=map(change_to_proto, changes[:limit]), has_more=len(changes) > limit
        )

    async def DiffConfiguration(
        self, request: pb.DiffConfigurationRequest, context: Any
    ) -> pb.DiffConfigurationResponse:
        current_platform_admin()
        until = request.to_version if request.HasField("to_version") else None
        found = await self._history.diff(request.from_version, until, proto_to_scope(request.scope))
        return pb.DiffConfigurationResponse(differences=map(difference_to_proto, found))

    async def RollbackConfiguration(
        self, request: pb.RollbackConfigurationRequest, context: Any
    ) -> pb.RollbackConfigurationResponse:
        edit = current_edit(request.reason or f"rollback to version {request.to_version}")
        scope = proto_to_scope(request.scope)
        return rollback_to_proto(await self._history.rollback(request.to_version, edit, scope, dry_run=request.dry_run))


def registration(servicer: ConfigurationServicer) -> Registration:
    return add_ConfigurationServiceServicer_to_server, servicer, "argosy.orchestration.v1.ConfigurationService"
