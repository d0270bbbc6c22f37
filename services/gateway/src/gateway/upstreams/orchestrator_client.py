"""Upstreams in the orchestrator, over gRPC."""

from typing import Any

import orjson
from argosy.inference.v1 import inference_pb2
from argosy.orchestration.v1 import upstreams_pb2 as pb
from argosy.orchestration.v1.upstreams_pb2_grpc import UpstreamServiceStub
from chassis.grpc import Channel
from google.protobuf.duration_pb2 import Duration
from values.protos import proto_to_timestamp

from gateway.upstreams.schemas import (
    CredentialCreate,
    CredentialList,
    CredentialPatch,
    CredentialRead,
    UpstreamCircuit,
    UpstreamCircuitState,
    UpstreamHealth,
    UpstreamList,
    UpstreamPut,
    UpstreamRead,
    UpstreamStatus,
)
from gateway.web.schemas import unix_seconds

# The document's own name of it would be taken for the version of the configuration.
VERSION_HEADER = "version_header"

STATES: dict[int, UpstreamCircuitState] = {
    inference_pb2.CIRCUIT_STATE_CLOSED: "closed",
    inference_pb2.CIRCUIT_STATE_OPEN: "open",
    inference_pb2.CIRCUIT_STATE_HALF_OPEN: "half_open",
}


class UpstreamsClient:
    """Acts on behalf of the current caller. All calls raise the orchestrator's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = UpstreamServiceStub(channel)

    async def list(self) -> UpstreamList:
        response = await self._stub.ListUpstreams(pb.ListUpstreamsRequest())
        return UpstreamList(data=map(proto_to_upstream, response.upstreams))

    async def get(self, name: str) -> UpstreamRead:
        """Raises UPSTREAM_NOT_FOUND."""
        return proto_to_upstream((await self._stub.GetUpstream(pb.GetUpstreamRequest(name=name))).upstream)

    async def health(self, name: str) -> UpstreamHealth:
        """Raises UPSTREAM_NOT_FOUND."""
        response = await self._stub.GetUpstreamHealth(pb.GetUpstreamHealthRequest(name=name))
        return proto_to_health(name, response.health)

    async def put(self, name: str, body: UpstreamPut) -> UpstreamRead:
        """Raises INVALID_REQUEST, UPSTREAM_ADDRESS_NOT_ALLOWED, UPSTREAM_VERSION_CONFLICT."""
        request = pb.PutUpstreamRequest(
            name=name, document=orjson.dumps(to_document(body)), reason=body.reason, expected_version=body.version
        )
        return proto_to_upstream((await self._stub.PutUpstream(request)).upstream)

    async def delete(self, name: str, reason: str) -> None:
        """Raises UPSTREAM_NOT_FOUND, UPSTREAM_IN_USE."""
        await self._stub.DeleteUpstream(pb.DeleteUpstreamRequest(name=name, reason=reason))

    async def credentials(self, upstream: str, tenant_id: str) -> CredentialList:
        """Raises UPSTREAM_NOT_FOUND."""
        request = pb.ListCredentialsRequest(upstream=upstream, tenant_id=tenant_id)
        response = await self._stub.ListCredentials(request)
        return CredentialList(data=map(proto_to_credential, response.credentials))

    async def add_credential(self, upstream: str, body: CredentialCreate) -> CredentialRead:
        """Raises INVALID_REQUEST, UPSTREAM_NOT_FOUND, CREDENTIALS_NOT_CONFIGURED."""
        request = pb.AddCredentialRequest(
            upstream=upstream,
            tenant_id=body.tenant_id,
            secret=body.secret.get_secret_value(),
            label=body.label,
            weight=body.weight,
            reason=body.reason,
        )
        return proto_to_credential((await self._stub.AddCredential(request)).credential)

    async def change_credential(self, upstream: str, credential_id: str, body: CredentialPatch) -> CredentialRead:
        """Raises CREDENTIAL_NOT_FOUND."""
        request = pb.ChangeCredentialRequest(
            upstream=upstream,
            tenant_id=body.tenant_id,
            credential_id=credential_id,
            enabled=body.enabled,
            weight=body.weight,
            label=body.label,
            reason=body.reason,
        )
        return proto_to_credential((await self._stub.ChangeCredential(request)).credential)

    async def delete_credential(self, upstream: str, tenant_id: str, credential_id: str, reason: str) -> None:
        """Raises CREDENTIAL_NOT_FOUND."""
        request = pb.DeleteCredentialRequest(
            upstream=upstream, tenant_id=tenant_id, credential_id=credential_id, reason=reason
        )
        await self._stub.DeleteCredential(request)

    async def shred(self, tenant_id: str, reason: str) -> int:
        """Return how many credentials there were."""
        request = pb.ShredCredentialsRequest(tenant_id=tenant_id, reason=reason)
        return (await self._stub.ShredCredentials(request)).deleted


def to_document(body: UpstreamPut) -> dict[str, Any]:
    """What the orchestrator keeps: only what was set, so that each kind has its own defaults."""
    document = body.model_dump(exclude={"reason", "version"}, exclude_unset=True)
    if VERSION_HEADER in document:
        document["version"] = document.pop(VERSION_HEADER)
    return document


def proto_to_upstream(message: pb.Upstream) -> UpstreamRead:
    fields: dict[str, Any] = orjson.loads(message.document)
    fields[VERSION_HEADER] = fields.pop("version", None)
    updated_at = unix_seconds(proto_to_timestamp(message.updated_at))
    return UpstreamRead(**fields, name=message.name, version=message.version, updated_at=updated_at)


def proto_to_health(name: str, message: inference_pb2.UpstreamHealth) -> UpstreamHealth:
    circuits = list(map(_proto_to_circuit, message.circuits))
    usable = [one.state == "closed" and not one.rests_seconds and not one.credential_rests_seconds for one in circuits]
    status: UpstreamStatus = "down"
    if not circuits:
        status = "unused"
    elif all(usable):
        status = "up"
    elif any(usable) or message.left_out or any(one.only_tenant_id for one in circuits):
        status = "degraded"
    return UpstreamHealth(name=name, status=status, circuits=circuits, left_out=message.left_out)


def _proto_to_circuit(message: inference_pb2.Circuit) -> UpstreamCircuit:
    return UpstreamCircuit(
        credential_id=message.credential_id,
        model=message.model,
        state=STATES[message.state],
        probe_in_seconds=_seconds(message.probe_in),
        rests_seconds=_seconds(message.rests_for),
        credential_rests_seconds=_seconds(message.credential_rests_for),
        calls=message.calls,
        failures=message.failures,
        slow=message.slow,
        only_tenant_id=message.only_tenant_id or None,
    )


def _seconds(duration: Duration) -> float:
    return round(duration.ToTimedelta().total_seconds(), 3)


def proto_to_credential(message: pb.UpstreamCredential) -> CredentialRead:
    return CredentialRead(
        id=message.credential_id,
        upstream=message.upstream,
        tenant_id=message.tenant_id,
        label=message.label,
        weight=message.weight,
        enabled=message.enabled,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
    )
