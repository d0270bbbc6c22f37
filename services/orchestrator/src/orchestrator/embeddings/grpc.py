"""Embeddings over gRPC."""

from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from chassis.tenancy import current_caller
from values.protos import usage_to_proto

from orchestrator.chat.protos import proto_to_timeout
from orchestrator.embeddings.embed import Embeddings, EmbedRequest, PricedEmbeddings
from orchestrator.telemetry import RequestObservation


class EmbeddingsServicer:
    """The part of the service that is about embeddings."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Turn texts into vectors."""
        timeout = proto_to_timeout(request, context.time_remaining())
        wanted = EmbedRequest(
            request.request_id,
            current_caller().principal,
            request.model,
            tuple(request.inputs),
            request.dimensions,
            timeout,
        )
        with RequestObservation("embedding", request.model) as observation:
            embeddings = await self._embeddings.embed(wanted)
            observation.finished(embeddings.priced.usage, embeddings.priced.cost)
        return _embeddings_to_proto(embeddings)


def _embeddings_to_proto(embeddings: PricedEmbeddings) -> pb.EmbedResponse:
    message = pb.EmbedResponse()
    for vector in embeddings.vectors:
        message.vectors.add(float32=vector)
    usage_to_proto(embeddings.priced.usage, message.usage)
    message.cost.nano_usd = embeddings.priced.cost
    return message
