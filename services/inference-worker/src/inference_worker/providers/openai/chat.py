"""Chat completions of upstreams with OpenAI's API."""

from inference_worker.providers.credentials import Credential
from inference_worker.providers.openai.chat_answer import ChatAnswer
from inference_worker.providers.openai.chat_stream import ChatStream
from inference_worker.providers.ports import Completion
from inference_worker.providers.transport.http import HttpClient

_TOOLS = b'"tools"'


class OpenaiProvider:
    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def open(
        self,
        model: str,  # noqa: ARG002 - it is in the body
        body: bytes,
        *,
        stream: bool,
        credential: Credential | None = None,
    ) -> Completion:
        """Send the body as it is. What came decides how it is read, not what was asked for."""
        response = await self._client.post("/chat/completions", body, credential)
        if stream and not response.content_type.endswith("json"):
            return ChatStream(response, self._client, has_tools=_TOOLS in body)
        return ChatAnswer(response, self._client, stream=stream)
