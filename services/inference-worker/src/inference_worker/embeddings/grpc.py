"""The RPC `Embed`."""

from collections.abc import Callable
from typing import Any

from argosy.inference.v1 import inference_pb2
from chassis.errors import InvalidRequest
from values.limits import MAX_EMBEDDING_INPUTS
from values.protos import error_to_proto, proto_to_inputs

from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.embeddings.run import EmbedRequest, EmbedResult, EmbedRun
from inference_worker.metrics import EMBED_SECONDS, EMBED_TEXTS
from inference_worker.plans.grpc import log_request
from inference_worker.plans.protos import DEFAULT_DEADLINE, attempt_to_proto, proto_to_candidates, proto_to_timeout
from inference_worker.providers.model import UpstreamFailed


class EmbeddingMethods:
    def __init__(self, new_run: Callable[[EmbedRequest], EmbedRun], limit: ConcurrencyLimit) -> None:
        self._new_run = new_run
        self._limit = limit

    async def embed(self, message: inference_pb2.EmbedRequest, context: Any) -> inference_pb2.EmbedResponse:
        request = proto_to_embed_request(message)
        with self._limit, EMBED_SECONDS.time():
            EMBED_TEXTS.inc(len(request.inputs))
            result = await self._new_run(request).run()
        log_request("embedding_finished", (request.candidate,), (result.attempt,), result.error)
        return embed_result_to_proto(result)


def proto_to_embed_request(message: inference_pb2.EmbedRequest) -> EmbedRequest:
    """Raises `InvalidRequest` for texts that cannot be embedded."""
    inputs = proto_to_inputs(message)
    if not 1 <= len(inputs) <= MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(f"1 to {MAX_EMBEDDING_INPUTS} inputs", param="inputs")
    if not all(inputs):
        raise InvalidRequest("an input is empty", param="inputs")
    if message.dimensions < 0:
        raise InvalidRequest("a vector has at least one dimension", param="dimensions")
    candidates = proto_to_candidates(message.candidates, "candidates")
    if len(candidates) > 1:
        # The second call could not be recorded before it is made.
        raise InvalidRequest("exactly one candidate", param="candidates")
    return EmbedRequest(
        candidate=candidates[0],
        inputs=inputs,
        deadline=proto_to_timeout(message, "deadline", DEFAULT_DEADLINE),
        dimensions=message.dimensions or None,
    )


def embed_result_to_proto(result: EmbedResult) -> inference_pb2.EmbedResponse:
    response = inference_pb2.EmbedResponse()
    for vector in result.vectors:
        response.vectors.add(float32=vector)
    attempt_to_proto(result.attempt, response.attempts.add())
    if result.error is not None:
        error_to_proto(result.error, response.error)
    if isinstance(result.error, UpstreamFailed):
        response.retry_same, response.fallback = result.error.retry_same, result.error.fallback
    return response
