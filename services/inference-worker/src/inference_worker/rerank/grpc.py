"""Scores over gRPC."""

from collections.abc import Callable
from typing import Any

from argosy.inference.v1 import inference_pb2
from chassis.errors import InvalidRequest
from values.limits import MAX_RERANK_DOCUMENTS
from values.protos import error_to_proto, proto_to_billing_unit

from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.metrics import RERANK_DOCUMENTS, RERANK_SECONDS
from inference_worker.plans.grpc import log_request
from inference_worker.plans.protos import DEFAULT_DEADLINE, attempt_to_proto, proto_to_candidates, proto_to_timeout
from inference_worker.providers.model import UpstreamFailed
from inference_worker.rerank.run import RerankRequest, RerankResult, RerankRun


class RerankMethods:
    def __init__(self, new_run: Callable[[RerankRequest], RerankRun], limit: ConcurrencyLimit) -> None:
        self._new_run = new_run
        self._limit = limit

    async def rerank(self, message: inference_pb2.RerankRequest, context: Any) -> inference_pb2.RerankResponse:
        request = proto_to_rerank_request(message)
        with self._limit:
            with RERANK_SECONDS.time():
                RERANK_DOCUMENTS.inc(len(request.documents))
                result = await self._new_run(request).run()
            log_request("rerank_finished", (request.candidate,), (result.attempt,), result.error)
            return rerank_result_to_proto(result)


def proto_to_rerank_request(message: inference_pb2.RerankRequest) -> RerankRequest:
    """Raises `InvalidRequest` for what cannot be scored."""
    documents = tuple(message.documents)
    if not message.query:
        raise InvalidRequest("the query is empty", param="query")
    if not 1 <= len(documents) <= MAX_RERANK_DOCUMENTS or not all(documents):
        raise InvalidRequest(f"1 to {MAX_RERANK_DOCUMENTS} documents, none empty", param="documents")
    candidates = proto_to_candidates(message.candidates, "candidates")
    if len(candidates) > 1:
        # The second call could not be recorded before it is made.
        raise InvalidRequest("exactly one candidate", param="candidates")
    deadline = proto_to_timeout(message, "deadline", DEFAULT_DEADLINE)
    unit = proto_to_billing_unit(message.billing_unit)
    return RerankRequest(candidates[0], message.query, documents, deadline, unit)


def rerank_result_to_proto(result: RerankResult) -> inference_pb2.RerankResponse:
    response = inference_pb2.RerankResponse(scores=result.scores, warnings=result.warnings)
    attempt_to_proto(result.attempt, response.attempts.add())
    if result.error is not None:
        error_to_proto(result.error, response.error)
    if isinstance(result.error, UpstreamFailed):
        response.retry_same, response.fallback = result.error.retry_same, result.error.fallback
    return response
