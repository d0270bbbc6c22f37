"""The gRPC services of upstreams: for operators, and for workers."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import upstreams_pb2 as pb
from argosy.orchestration.v1.upstreams_pb2_grpc import (
    UpstreamServiceServicer,
    UpstreamWatchServiceServicer,
    add_UpstreamServiceServicer_to_server,
    add_UpstreamWatchServiceServicer_to_server,
)
from chassis.grpc import Registration
from chassis.tenancy import current_caller
from values.roles import SERVICE, current_platform_admin

from orchestrator.configuration.grpc import current_edit
from orchestrator.upstreams.cache import UpstreamCache
from orchestrator.upstreams.manage import CredentialChange, ManageUpstreams
from orchestrator.upstreams.model import CredentialKey
from orchestrator.upstreams.protos import credential_to_proto, proto_to_document, snapshot_to_proto, stored_to_proto

Describe = Callable[[str], Awaitable[inference_pb2.UpstreamHealth]]

WATCH_SECONDS: Final = 50.0
"""Workers wait a little longer than this."""


class UpstreamServicer(UpstreamServiceServicer):
    """Operators declare upstreams and bring credentials."""

    def __init__(self, manage: ManageUpstreams, describe: Describe) -> None:
        """`describe` tells what a worker knows of an upstream. Raises UpstreamNotFound, Unavailable."""
        self._manage = manage
        self._describe = describe

    async def ListUpstreams(self, request: pb.ListUpstreamsRequest, context: Any) -> pb.ListUpstreamsResponse:
        current_platform_admin()
        return pb.ListUpstreamsResponse(upstreams=map(stored_to_proto, await self._manage.store.list()))

    async def GetUpstream(self, request: pb.GetUpstreamRequest, context: Any) -> pb.GetUpstreamResponse:
        current_platform_admin()
        return pb.GetUpstreamResponse(upstream=stored_to_proto(await self._manage.get(request.name)))

    async def GetUpstreamHealth(
        self, request: pb.GetUpstreamHealthRequest, context: Any
    ) -> pb.GetUpstreamHealthResponse:
        current_platform_admin()
        return pb.GetUpstreamHealthResponse(health=await self._describe(request.name))

    async def PutUpstream(self, request: pb.PutUpstreamRequest, context: Any) -> pb.PutUpstreamResponse:
        edit, document = current_edit(request.reason), proto_to_document(request.document)
        expected = request.expected_version if request.HasField("expected_version") else None
        stored = await self._manage.put(request.name, document, edit, expected_version=expected)
        return pb.PutUpstreamResponse(upstream=stored_to_proto(stored))

    async def DeleteUpstream(self, request: pb.DeleteUpstreamRequest, context: Any) -> pb.DeleteUpstreamResponse:
        await self._manage.delete(request.name, current_edit(request.reason))
        return pb.DeleteUpstreamResponse()

    async def ListCredentials(self, request: pb.ListCredentialsRequest, context: Any) -> pb.ListCredentialsResponse:
        current_platform_admin()
        found = await self._manage.credentials(request.upstream, request.tenant_id)
        return pb.ListCredentialsResponse(credentials=map(credential_to_proto, found))

    async def AddCredential(self, request: pb.AddCredentialRequest, context: Any) -> pb.AddCredentialResponse:
        edit = current_edit(request.reason)
        added = await self._manage.add_credential(
            request.upstream,
            request.tenant_id,
            request.secret,
            edit,
            label=request.label,
            weight=request.weight or 1,
        )
        return pb.AddCredentialResponse(credential=credential_to_proto(added))

    async def ChangeCredential(self, request: pb.ChangeCredentialRequest, context: Any) -> pb.ChangeCredentialResponse:
        edit = current_edit(request.reason)
        wanted = CredentialChange(
            request.enabled if request.HasField("enabled") else None,
            request.weight if request.HasField("weight") else None,
            request.label if request.HasField("label") else None,
        )
        key = CredentialKey(request.tenant_id, request.upstream, request.credential_id)
        changed = await self._manage.change_credential(key, wanted, edit)
        return pb.ChangeCredentialResponse(credential=credential_to_proto(changed))

    async def DeleteCredential(self, request: pb.DeleteCredentialRequest, context: Any) -> pb.DeleteCredentialResponse:
        key = CredentialKey(request.tenant_id, request.upstream, request.credential_id)
        await self._manage.delete_credential(key, current_edit(request.reason))
        return pb.DeleteCredentialResponse()

    async def ShredCredentials(self, request: pb.ShredCredentialsRequest, context: Any) -> pb.ShredCredentialsResponse:
        deleted = await self._manage.shred(request.tenant_id, current_edit(request.reason))
        return pb.ShredCredentialsResponse(deleted=deleted)


class UpstreamWatchServicer(UpstreamWatchServiceServicer):
    """Workers wait for changes."""

    def __init__(self, cache: UpstreamCache) -> None:
        self._cache = cache

    async def WatchUpstreams(self, request: pb.WatchUpstreamsRequest, context: Any) -> pb.WatchUpstreamsResponse:
        current_caller().principal.require(SERVICE)
        known = request.known_version if request.HasField("known_version") else None
        snapshot = await self._cache.wait_newer(known, WATCH_SECONDS)
        return pb.WatchUpstreamsResponse(snapshot=None if snapshot is None else snapshot_to_proto(snapshot))


class StopWatches:
    """A component whose `stop` ends all waits. List it after the gRPC server, which would wait for them."""

    name = "upstream-watches"

    def __init__(self, cache: UpstreamCache) -> None:
        self._cache = cache

    async def start(self) -> None:
        """Do nothing: calls start watches."""

    async def stop(self) -> None:
        self._cache.stop()


def registrations(servicer: UpstreamServicer, watch: UpstreamWatchServicer) -> tuple[Registration, Registration]:
    package = "argosy.orchestration.v1"
    return (
        (add_UpstreamServiceServicer_to_server, servicer, f"{package}.UpstreamService"),
        (add_UpstreamWatchServiceServicer_to_server, watch, f"{package}.UpstreamWatchService"),
    )
