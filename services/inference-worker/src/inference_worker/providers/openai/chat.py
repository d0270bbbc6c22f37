"""Chat completions of upstreams with OpenAI's API: bytes pass through, and little of the JSON is parsed."""

import re
from collections.abc import Sequence
from typing import Any

from values.usage import TokenUsage

from inference_worker.providers.credentials import Credential
from inference_worker.providers.model import UpstreamFailed, UpstreamInterrupted, UpstreamProtocolError
from inference_worker.providers.payloads import SseDecoder, openai_usage, parse_object
from inference_worker.providers.ports import Completion
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import (
    LINGER_SECONDS,
    BufferedCompletion,
    HttpClient,
    HttpCompletion,
    read_available,
)

DONE = b"[DONE]"

# None matches inside a JSON string: its quotes are escaped. OpenAI puts a null "usage" into every chunk.
_ERROR = b'"error"'
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')


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
        """Send the body as it is."""
        response = await self._client.post("/chat/completions", body, credential)
        if stream:
            return ChatStream(response, self._client)
        return BufferedCompletion(response, self._client, _check_completion)


class ChatStream(HttpCompletion):
    """A streamed completion, forwarded payload by payload."""

    __slots__ = (
        "_client",
        "_decoder",
        "_ended",
        "_error",
        "_recent",
        "_response",
        "_started",
        "usage",
        "usage_payload",
    )

    def __init__(self, response: Response, client: HttpClient) -> None:
        super().__init__(response, client)
        self._decoder = SseDecoder(client.endpoint.max_event_bytes)
        self._recent: list[bytes] = []
        self._started = False
        self._error: UpstreamFailed | None = None
        self.usage: TokenUsage | None = None

    async def read(self) -> Sequence[bytes]:
        """Return the payloads that arrived together, and record the usage among them."""
        while not self._ended:
            data = await read_available(self._response)
            payloads = self._decoder.feed(data) if data else self._decoder.flush()
            done = DONE in payloads
            if done:
                payloads = payloads[: payloads.index(DONE)]
            for_client = self._filter_client_events(payloads)
            self._recent = [*self._recent, *for_client][-4:]
            if done or not data:
                self._end(done=done)
            if for_client:
                return for_client
        if self._error is not None:
            raise self._error
        return ()

    def _filter_client_events(self, payloads: list[bytes]) -> list[bytes]:
        """Return what the client gets. An error is raised by the next read, so that payloads before it are not lost."""
        if self._started and are_plain_chunks(payloads):
            return payloads
        for_client = []
        try:
            for payload in payloads:
                if self._is_for_client(payload):
                    for_client.append(payload)
                self._started = True
        except UpstreamFailed as error:
            self.abort()
            self._error = error
        return for_client

    def _end(self, *, done: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._response.linger(LINGER_SECONDS)
        if not self._started:
            self._error = UpstreamProtocolError("the upstream's stream is empty")
        elif not done and not self.usage_payload and not any(map(_FINISH_REASON.search, self._recent)):
            self._error = UpstreamInterrupted("the upstream's response was interrupted")

    def _is_for_client(self, payload: bytes) -> bool:
        if not self._started:
            parse_object(payload)
        elif payload[:1] != b"{" or payload[-1:] != b"}":
            raise UpstreamProtocolError("the upstream sent an event that is not a JSON object")
        if _ERROR in payload or _USAGE.search(payload):
            return self._inspect(parse_object(payload), payload)
        return True

    def _inspect(self, event: dict[str, Any], payload: bytes) -> bool:
        if event.get("error") or event.get("object") == "error":
            if self._started:
                raise UpstreamInterrupted("the upstream's response was interrupted by an error")
            raise UpstreamFailed("the upstream failed before its response began")
        self.usage = openai_usage(event) or self.usage
        if self.usage is not None and event.get("choices") == []:
            self.usage_payload = payload
            return False
        return True


def are_plain_chunks(payloads: list[bytes]) -> bool:
    """Tell whether all are JSON objects without error or usage, by searching the block instead of each payload."""
    block = b"\n".join(payloads)
    borders = len(payloads) - 1
    return (
        _ERROR not in block
        and not _USAGE.search(block)
        and block[:1] == b"{"
        and block[-1:] == b"}"
        and block.count(b"}\n{") == borders == block.count(b"\n")
    )


def _check_completion(body: bytes) -> tuple[bytes, TokenUsage | None]:
    completion = parse_object(body)
    if completion.get("error"):
        raise UpstreamFailed("the upstream responded with an error")
    return body, openai_usage(completion)
