"""Settings of an upstream with OpenAI's API, and how it is opened."""

from contextlib import AsyncExitStack
from typing import ClassVar, Literal

from chassis.clock import Clock

from inference_worker.providers.config import HttpUpstreamConfig, static_credentials
from inference_worker.providers.openai.chat import OpenaiProvider
from inference_worker.providers.openai.embeddings import OpenaiEmbedder
from inference_worker.providers.ports import Upstream
from inference_worker.providers.rerankers.requests import plain_request
from inference_worker.providers.rerankers.reranker import HttpReranker
from inference_worker.providers.transport.http import HttpClient


class OpenaiConfig(HttpUpstreamConfig):
    """An upstream with OpenAI's API; the base URL usually ends in `/v1`."""

    kind: Literal["openai"]
    credential_header: ClassVar[tuple[str, str]] = ("authorization", "Bearer ")

    def api_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key.get_secret_value()}"} if self.api_key else {}

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        client = await stack.enter_async_context(HttpClient(self.endpoint()))
        embedder = OpenaiEmbedder(client)
        return Upstream(
            self.token_counter(),
            provider=OpenaiProvider(client),
            embedder=embedder,
            token_id_embedder=embedder,
            reranker=HttpReranker(client, plain_request),
            credentials=static_credentials(self.keys()),
            retire=client.retire,
        )
