"""Embeddings over gRPC."""

from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.protos import proto_to_duration, proto_to_inputs, usage_to_proto
from values.roles import current_member

from orchestrator.embeddings.embed import Embeddings, PricedEmbeddings
from orchestrator.embeddings.prepare import EmbedRequest
from orchestrator.limits import shorter_timeout
from orchestrator.telemetry import RequestObservation


async def embed(embeddings: Embeddings, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
    requested = proto_to_duration(request.deadline) if request.HasField("deadline") else None
    principal, timeout = current_member(), shorter_timeout(requested, context.time_remaining())
    embed_request = EmbedRequest(
        request.request_id, principal, request.model, proto_to_inputs(request), request.dimensions, timeout
    )
    with RequestObservation("embedding", request.model) as observation:
        observation.flags = embed_request.flags
        result = await embeddings.embed(embed_request)
        observation.finished(result.priced.usage, result.priced.cost)
    return _embeddings_to_proto(result)


def _embeddings_to_proto(embeddings: PricedEmbeddings) -> pb.EmbedResponse:
    message = pb.EmbedResponse()
    for vector in embeddings.vectors:
        message.vectors.add(float32=vector)
    usage_to_proto(embeddings.priced.usage, message.usage)
    message.cost.nano_usd = embeddings.priced.cost
    return message
