"""The RPCs `Embed` and `EmbedInPieces`."""

from collections.abc import Callable, Sequence
from typing import Any

from argosy.inference.v1 import inference_pb2
from chassis.errors import InvalidRequest
from values.embeddings import split_vectors
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
        with self._limit:
            result = await self._run(request)
        return embed_result_to_proto(result, result.vectors)

    async def embed_in_pieces(self, message: inference_pb2.EmbedInPiecesRequest, context: Any) -> None:
        """Write the vectors in pieces, each when the caller has read those before it."""
        request = proto_to_embed_request(message.request)
        with self._limit:
            result = await self._run(request)
            first, *others = split_vectors(result.vectors)
            await context.write(inference_pb2.EmbedInPiecesResponse(piece=embed_result_to_proto(result, first)))
            for vectors in others:
                response = inference_pb2.EmbedInPiecesResponse()
                _add_vectors(response.piece, vectors)
                await context.write(response)

    async def _run(self, request: EmbedRequest) -> EmbedResult:
        with EMBED_SECONDS.time():
            EMBED_TEXTS.inc(len(request.inputs))
            result = await self._new_run(request).run()
        log_request("embedding_finished", (request.candidate,), (result.attempt,), result.error)
        return result


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
        refuse_truncation=message.refuse_truncation,
    )


def embed_result_to_proto(result: EmbedResult, vectors: Sequence[bytes]) -> inference_pb2.EmbedResponse:
    """Write the result with `vectors`, which are all of its own or the first of them."""
    response = inference_pb2.EmbedResponse()
    _add_vectors(response, vectors)
    attempt_to_proto(result.attempt, response.attempts.add())
    if result.error is not None:
        error_to_proto(result.error, response.error)
    if isinstance(result.error, UpstreamFailed):
        response.retry_same, response.fallback = result.error.retry_same, result.error.fallback
    return response


def _add_vectors(response: inference_pb2.EmbedResponse, vectors: Sequence[bytes]) -> None:
    for vector in vectors:
        response.vectors.add(float32=vector)
