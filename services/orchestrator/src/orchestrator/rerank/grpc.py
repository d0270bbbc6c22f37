"""Scores over gRPC."""

from typing import Any

from argosy.orchestration.v1 import orchestration_pb2 as pb
from values.protos import proto_to_duration, usage_to_proto
from values.roles import current_member

from orchestrator.limits import shorter_timeout
from orchestrator.rerank.prepare import RerankRequest
from orchestrator.rerank.rerank import Reranks
from orchestrator.telemetry import RequestObservation


async def rerank(reranks: Reranks, message: pb.RerankRequest, context: Any) -> pb.RerankResponse:
    requested = proto_to_duration(message.deadline) if message.HasField("deadline") else None
    timeout = shorter_timeout(requested, context.time_remaining())
    request = RerankRequest(
        message.request_id, current_member(), message.model, message.query, tuple(message.documents), timeout
    )
    with RequestObservation("rerank", message.model) as observation:
        observation.flags = request.flags
        result = await reranks.rerank(request)
        observation.finished(result.priced.usage, result.priced.cost)
    response = pb.RerankResponse(scores=result.scores, search_units=result.search_units, warnings=result.warnings)
    usage_to_proto(result.priced.usage, response.usage)
    response.cost.nano_usd = result.priced.cost
    return response
