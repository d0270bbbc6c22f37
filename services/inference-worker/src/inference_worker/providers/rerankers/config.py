"""Settings of upstreams that only score documents, and how they are opened."""

from contextlib import AsyncExitStack
from typing import ClassVar, Literal

from chassis.clock import Clock
from pydantic import Field
from values.limits import MAX_RERANK_DOCUMENTS

from inference_worker.providers.config import HttpConfig, static_credentials
from inference_worker.providers.ports import Upstream
from inference_worker.providers.rerankers.requests import (
    WriteRequest,
    cohere_request,
    jina_request,
    tei_request,
    voyage_request,
)
from inference_worker.providers.rerankers.reranker import HttpReranker
from inference_worker.providers.transport.http import HttpClient
from inference_worker.token_counting.model import NullTokenCounter


class RerankerConfig(HttpConfig):
    """An upstream that scores documents by a call of `rerank` under its address."""

    credential_header: ClassVar[tuple[str, str]] = ("authorization", "Bearer ")
    write: ClassVar[WriteRequest]
    """Writes the body of a call."""

    def api_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key.get_secret_value()}"} if self.api_key else {}

    def documents_per_call(self) -> int:
        return MAX_RERANK_DOCUMENTS

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        client = await stack.enter_async_context(HttpClient(self.endpoint()))
        return Upstream(
            NullTokenCounter(),
            reranker=HttpReranker(client, type(self).write, max_documents=self.documents_per_call()),
            credentials=static_credentials(self.keys()),
            retire=client.retire,
        )


class CohereConfig(RerankerConfig):
    """Cohere's rerank API, version 2; the base URL ends in `/v2`."""

    kind: Literal["cohere"]
    write: ClassVar[WriteRequest] = staticmethod(cohere_request)


class JinaConfig(RerankerConfig):
    """Jina's rerank API; the base URL ends in `/v1`."""

    kind: Literal["jina"]
    write: ClassVar[WriteRequest] = staticmethod(jina_request)


class VoyageConfig(RerankerConfig):
    """Voyage's rerank API; the base URL ends in `/v1`."""

    kind: Literal["voyage"]
    write: ClassVar[WriteRequest] = staticmethod(voyage_request)


class TeiConfig(RerankerConfig):
    """Hugging Face's Text Embeddings Inference with a reranker; the base URL has no path."""

    kind: Literal["tei"]
    write: ClassVar[WriteRequest] = staticmethod(tei_request)
    max_documents_per_call: int = Field(
        32,
        ge=1,
        le=MAX_RERANK_DOCUMENTS,
        description="Documents of one call, as the server's `--max-client-batch-size` says. More are sent in turn.",
    )

    def documents_per_call(self) -> int:
        return self.max_documents_per_call
