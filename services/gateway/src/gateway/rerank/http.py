"""`POST /v1/rerank`: documents in the order of their scores for a query."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
from chassis.http import Receive, Scope, read_body
from values.money import nano_usd_to_usd

from gateway.inference.model import InferenceClient, RerankRequest, RerankResult, UpstreamInvalidResponse
from gateway.rerank.schemas import DOCUMENTS_SCHEMA, TEXT, RerankBody, read_rerank
from gateway.web.disconnect import CancelOnDisconnect
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.web.response import ResponseWriter

ROUTE = AsgiRoute(
    "/v1/rerank",
    "Order documents by how well they answer a query.",
    "Rerank",
    RerankBody,
    properties={
        "query": {"description": "A query of more than half of what the model reads is refused.", **TEXT},
        "documents": DOCUMENTS_SCHEMA,
        "top_n": {
            "description": "Only so many of the best; all without it.",
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        },
        "return_documents": {
            "description": "Whether each result has its document's text.",
            "type": "boolean",
            "default": True,
        },
    },
)
COST = b"argosy-cost"


class Rerank:
    """The handler; one per process."""

    def __init__(
        self, inference: InferenceClient, bodies: RequestBodies, *, max_body_bytes: int, deadline: timedelta
    ) -> None:
        self._inference = inference
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        response.body = self._bodies.reserve(scope, self._max_body_bytes)
        body, documents = read_rerank(await read_body(receive, self._max_body_bytes, response.body.grow_to))
        request = RerankRequest(response.request_id, body.model, body.query, documents, self._deadline)
        with CancelOnDisconnect(receive) as disconnect:
            result = await self._inference.rerank(request)
            answer = render(body, documents, result, response.request_id)
            disconnect.disarm()
            cost = nano_usd_to_usd(result.cost).encode()
            await response.send_response(200, answer, ((COST, cost),))


def render(body: RerankBody, documents: Sequence[str], result: RerankResult, request_id: str) -> bytes:
    """The answer, best first; documents of equal scores keep their order. Raises UpstreamInvalidResponse."""
    if len(result.scores) != len(documents):
        raise UpstreamInvalidResponse("The model returned a wrong number of scores.")
    order = sorted(range(len(documents)), key=lambda index: -result.scores[index])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": result.scores[index]} for index in order]
    if body.return_documents:
        for one in results:
            one["document"] = {"text": documents[one["index"]]}
    tokens = max(0, (result.usage.input_tokens or 0) - result.search_units)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    argosy: dict[str, Any] = {"request_id": request_id, "cost_usd": nano_usd_to_usd(result.cost)}
    if result.search_units:
        usage["search_units"] = result.search_units
    if result.warnings:
        argosy["warnings"] = list(result.warnings)
    return orjson.dumps(
        {
            "object": "list",
            "id": request_id,
            "model": body.model,
            "results": results,
            "usage": usage,
            "argosy": argosy,
        }
    )
