"""Embeddings over gRPC."""

from collections.abc import Sequence
from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.embeddings import split_vectors
from values.protos import proto_to_duration, proto_to_inputs, usage_to_proto
from values.roles import current_member

from orchestrator.embeddings.embed import Embeddings, PricedEmbeddings
from orchestrator.embeddings.prepare import EmbedRequest
from orchestrator.limits import shorter_timeout
from orchestrator.telemetry import RequestObservation


async def embed(embeddings: Embeddings, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
    result = await _embed(embeddings, request, context)
    return _embeddings_to_proto(result, result.vectors)


async def embed_in_pieces(embeddings: Embeddings, request: pb.EmbedInPiecesRequest, context: Any) -> None:
    """Write the vectors in pieces, once they are settled, each when the caller has read those before it."""
    result = await _embed(embeddings, request.request, context)
    first, *others = split_vectors(result.vectors)
    await context.write(pb.EmbedInPiecesResponse(piece=_embeddings_to_proto(result, first)))
    for vectors in others:
        response = pb.EmbedInPiecesResponse()
        _add_vectors(response.piece, vectors)
        await context.write(response)


async def _embed(embeddings: Embeddings, request: pb.EmbedRequest, context: Any) -> PricedEmbeddings:
    requested = proto_to_duration(request.deadline) if request.HasField("deadline") else None
    principal, timeout = current_member(), shorter_timeout(requested, context.time_remaining())
    embed_request = EmbedRequest(
        request.request_id,
        principal,
        request.model,
        proto_to_inputs(request),
        request.dimensions,
        timeout,
        refuse_truncation=request.refuse_truncation,
    )
    with RequestObservation("embedding", request.model) as observation:
        observation.flags = embed_request.flags
        result = await embeddings.embed(embed_request)
        observation.finished(result.priced.usage, result.priced.cost)
    return result


def _embeddings_to_proto(embeddings: PricedEmbeddings, vectors: Sequence[bytes]) -> pb.EmbedResponse:
    message = pb.EmbedResponse()
    _add_vectors(message, vectors)
    usage_to_proto(embeddings.priced.usage, message.usage)
    message.cost.nano_usd = embeddings.priced.cost
    return message


def _add_vectors(message: pb.EmbedResponse, vectors: Sequence[bytes]) -> None:
    for vector in vectors:
        message.vectors.add(float32=vector)
