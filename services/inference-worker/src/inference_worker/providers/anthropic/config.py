"""Settings of an upstream with Anthropic's Messages API, and how it is opened."""

from contextlib import AsyncExitStack
from typing import ClassVar, Literal

from chassis.clock import Clock
from pydantic import Field

from inference_worker.providers.anthropic.chat import AnthropicProvider
from inference_worker.providers.config import HttpUpstreamConfig, static_credentials
from inference_worker.providers.ports import Upstream
from inference_worker.providers.transport.http import HttpClient


class AnthropicConfig(HttpUpstreamConfig):
    """An upstream with Anthropic's Messages API; the base URL comes without `/v1`."""

    kind: Literal["anthropic"]
    credential_header: ClassVar[tuple[str, str]] = ("x-api-key", "")
    version: str = Field("2023-06-01", description="The API's version, sent as `anthropic-version`.")

    def api_headers(self) -> dict[str, str]:
        headers = {"anthropic-version": self.version}
        if self.api_key:
            headers["x-api-key"] = self.api_key.get_secret_value()
        return headers

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:
        client = await stack.enter_async_context(HttpClient(self.endpoint()))
        return Upstream(
            self.token_counter(),
            provider=AnthropicProvider(client, clock),
            credentials=static_credentials(self.keys()),
            retire=client.retire,
        )
