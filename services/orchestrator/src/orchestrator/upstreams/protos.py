"""Upstreams and credentials as messages."""

import orjson
from argosy.orchestration.v1 import upstreams_pb2 as pb
from chassis.errors import InvalidRequest
from values.protos import timestamp_to_proto

from orchestrator.upstreams.model import Credential, StoredUpstream, UpstreamSnapshot


def stored_to_proto(stored: StoredUpstream) -> pb.Upstream:
    return pb.Upstream(
        name=stored.upstream.name,
        document=orjson.dumps(stored.upstream.document),
        version=stored.version,
        updated_at=timestamp_to_proto(stored.updated_at),
    )


def credential_to_proto(credential: Credential) -> pb.UpstreamCredential:
    return pb.UpstreamCredential(
        credential_id=credential.key.credential_id,
        upstream=credential.key.upstream,
        tenant_id=credential.key.tenant_id,
        label=credential.label,
        weight=credential.weight,
        enabled=credential.enabled,
        created_at=timestamp_to_proto(credential.created_at),
    )


def snapshot_to_proto(snapshot: UpstreamSnapshot) -> pb.UpstreamSnapshot:
    return pb.UpstreamSnapshot(
        version=snapshot.version,
        upstreams=[
            pb.UpstreamDocument(name=upstream.name, document=orjson.dumps(upstream.document))
            for upstream in snapshot.upstreams
        ],
        data_keys=[
            pb.WrappedDataKey(tenant_id=tenant_id, wrapped_key=wrapped)
            for tenant_id, wrapped in snapshot.data_keys.items()
        ],
        credentials=[
            pb.SealedCredential(
                upstream=credential.key.upstream,
                tenant_id=credential.key.tenant_id,
                credential_id=credential.key.credential_id,
                sealed=credential.sealed,
                weight=credential.weight,
            )
            for credential in snapshot.credentials
        ],
    )


def proto_to_document(text: bytes) -> object:
    """Raises InvalidRequest. The error quotes nothing: a secret may stand where it does not belong."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The upstream is not JSON.", param="document") from None
