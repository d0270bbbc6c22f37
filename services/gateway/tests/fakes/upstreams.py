"""The orchestrator's upstreams, credentials and log of changes, in memory."""

from typing import Any

import orjson
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import configuration_pb2
from argosy.orchestration.v1 import upstreams_pb2 as pb
from argosy.orchestration.v1.configuration_pb2_grpc import ConfigurationServiceServicer
from argosy.orchestration.v1.upstreams_pb2_grpc import UpstreamServiceServicer
from chassis.errors import Kind, RemoteError

DEFAULTS = {
    "encoding": "cl100k_base",
    "requires_credential": True,
    "shares_prompt_cache": True,
    "description": "",
    "capabilities": {},
}


class FakeUpstreams(UpstreamServiceServicer):
    """Keeps documents without checking them. `secrets` are those that were added, by credential."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.credentials: dict[str, pb.UpstreamCredential] = {}
        self.secrets: dict[str, str] = {}
        self.health = inference_pb2.UpstreamHealth()
        self.put: list[pb.PutUpstreamRequest] = []

    async def ListUpstreams(self, request: pb.ListUpstreamsRequest, context: Any) -> pb.ListUpstreamsResponse:
        return pb.ListUpstreamsResponse(upstreams=[self._find(name) for name in sorted(self.documents)])

    async def GetUpstream(self, request: pb.GetUpstreamRequest, context: Any) -> pb.GetUpstreamResponse:
        return pb.GetUpstreamResponse(upstream=self._find(request.name))

    async def GetUpstreamHealth(
        self, request: pb.GetUpstreamHealthRequest, context: Any
    ) -> pb.GetUpstreamHealthResponse:
        self._find(request.name)
        return pb.GetUpstreamHealthResponse(health=self.health)

    async def PutUpstream(self, request: pb.PutUpstreamRequest, context: Any) -> pb.PutUpstreamResponse:
        self.put.append(request)
        self.documents[request.name] = DEFAULTS | orjson.loads(request.document)
        return pb.PutUpstreamResponse(upstream=self._find(request.name))

    async def DeleteUpstream(self, request: pb.DeleteUpstreamRequest, context: Any) -> pb.DeleteUpstreamResponse:
        self._find(request.name)
        del self.documents[request.name]
        return pb.DeleteUpstreamResponse()

    async def ListCredentials(self, request: pb.ListCredentialsRequest, context: Any) -> pb.ListCredentialsResponse:
        found = [one for one in self.credentials.values() if request.tenant_id in ("", one.tenant_id)]
        return pb.ListCredentialsResponse(credentials=found)

    async def AddCredential(self, request: pb.AddCredentialRequest, context: Any) -> pb.AddCredentialResponse:
        one = pb.UpstreamCredential(
            credential_id=f"crd_{len(self.secrets) + 1}",
            upstream=request.upstream,
            tenant_id=request.tenant_id,
            label=request.label,
            weight=request.weight,
            enabled=True,
        )
        self.credentials[one.credential_id] = one
        self.secrets[one.credential_id] = request.secret
        return pb.AddCredentialResponse(credential=one)

    async def ChangeCredential(self, request: pb.ChangeCredentialRequest, context: Any) -> pb.ChangeCredentialResponse:
        one = self._credential(request.credential_id)
        for field in ("enabled", "weight", "label"):
            if request.HasField(field):
                setattr(one, field, getattr(request, field))
        return pb.ChangeCredentialResponse(credential=one)

    async def DeleteCredential(self, request: pb.DeleteCredentialRequest, context: Any) -> pb.DeleteCredentialResponse:
        del self.credentials[self._credential(request.credential_id).credential_id]
        return pb.DeleteCredentialResponse()

    async def ShredCredentials(self, request: pb.ShredCredentialsRequest, context: Any) -> pb.ShredCredentialsResponse:
        found = [key for key, one in self.credentials.items() if one.tenant_id == request.tenant_id]
        for key in found:
            del self.credentials[key]
        return pb.ShredCredentialsResponse(deleted=len(found))

    def _find(self, name: str) -> pb.Upstream:
        if name not in self.documents:
            raise RemoteError(Kind.NOT_FOUND, "UPSTREAM_NOT_FOUND", "There is no such upstream.", param="name")
        return pb.Upstream(name=name, document=orjson.dumps(self.documents[name]), version=len(self.put))

    def _credential(self, credential_id: str) -> pb.UpstreamCredential:
        if credential_id not in self.credentials:
            raise RemoteError(Kind.NOT_FOUND, "CREDENTIAL_NOT_FOUND", "There is no such credential.")
        return self.credentials[credential_id]


class FakeConfigurationLog(ConfigurationServiceServicer):
    """One change, whatever is asked; `asked` are the requests."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        key = configuration_pb2.ConfigurationKey(kind="route", tenant_id="*", name="gpt")
        self.difference = configuration_pb2.ConfigurationDifference(key=key, after_json=b'{"a":1}')

    async def ListConfigurationChanges(
        self, request: configuration_pb2.ListConfigurationChangesRequest, context: Any
    ) -> configuration_pb2.ListConfigurationChangesResponse:
        self.asked.append(request)
        change = configuration_pb2.ConfigurationChange(
            version=7, difference=self.difference, author="usr_1", reason="because"
        )
        return configuration_pb2.ListConfigurationChangesResponse(changes=[change], has_more=True)

    async def DiffConfiguration(
        self, request: configuration_pb2.DiffConfigurationRequest, context: Any
    ) -> configuration_pb2.DiffConfigurationResponse:
        self.asked.append(request)
        return configuration_pb2.DiffConfigurationResponse(differences=[self.difference])

    async def RollbackConfiguration(
        self, request: configuration_pb2.RollbackConfigurationRequest, context: Any
    ) -> configuration_pb2.RollbackConfigurationResponse:
        self.asked.append(request)
        return configuration_pb2.RollbackConfigurationResponse(restored=[self.difference], version=8)
