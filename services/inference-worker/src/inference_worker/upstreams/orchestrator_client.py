"""Snapshots of upstreams from the orchestrator, over gRPC."""

from typing import Any, Final

import orjson
from argosy.orchestration.v1 import upstreams_pb2 as pb
from argosy.orchestration.v1.upstreams_pb2_grpc import UpstreamWatchServiceStub
from chassis.grpc import Channel
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller
from values.roles import SERVICE

from inference_worker.providers.credentials import SealedCredential
from inference_worker.upstreams.model import UpstreamDocument, UpstreamSnapshot

WATCH_TIMEOUT_SECONDS: Final = 60.0
"""Longer than the orchestrator waits."""

WORKER: Final = Principal("inference-worker", roles=frozenset({SERVICE}))


class GrpcUpstreamSource:
    """Implements `UpstreamSource`. Each call may go to another replica of the orchestrator."""

    def __init__(self, channel: Channel, signer: PrincipalSigner) -> None:
        self._stub: Any = UpstreamWatchServiceStub(channel)
        self._signer = signer

    async def wait_newer(self, known_version: int | None) -> UpstreamSnapshot | None:
        request = pb.WatchUpstreamsRequest(known_version=known_version)
        with as_caller(Caller(WORKER, self._signer.sign(WORKER), new_id("req_"))):
            response = await self._stub.WatchUpstreams(request, timeout=WATCH_TIMEOUT_SECONDS)
        return proto_to_snapshot(response.snapshot) if response.HasField("snapshot") else None


def proto_to_snapshot(message: pb.UpstreamSnapshot) -> UpstreamSnapshot:
    keys = {one.tenant_id: one.wrapped_key for one in message.data_keys}
    return UpstreamSnapshot(
        message.version,
        tuple(UpstreamDocument(one.name, orjson.loads(one.document)) for one in message.upstreams),
        tuple(
            SealedCredential(
                one.upstream, one.credential_id, one.tenant_id, one.sealed, keys.get(one.tenant_id, b""), one.weight
            )
            for one in message.credentials
        ),
    )
