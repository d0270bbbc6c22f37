"""Chat completions of upstreams with Anthropic's Messages API, translated from and to OpenAI's."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
from chassis.clock import Clock
from values.usage import TokenUsage

from inference_worker.providers.anthropic.events import (
    EventTranslator,
    message_to_completion,
    message_usage,
)
from inference_worker.providers.anthropic.request import to_messages_request
from inference_worker.providers.credentials import Credential
from inference_worker.providers.inner_errors import InnerError, find_error
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
)
from inference_worker.providers.payloads import parse_object
from inference_worker.providers.ports import Completion
from inference_worker.providers.transport.completions import BufferedCompletion, HttpCompletion
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import LINGER_SECONDS, HttpClient, read_available
from inference_worker.providers.transport.sse import SseDecoder

T = TypeVar("T")


class AnthropicProvider:
    def __init__(self, client: HttpClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def open(
        self,
        model: str,  # noqa: ARG002 - it is in the body
        body: bytes,
        *,
        stream: bool,
        credential: Credential | None = None,
    ) -> Completion:
        """Translate the body and send it."""
        warnings: list[str] = []
        translated = _translate_request(body, warnings, stream=stream)
        response = await self._client.post("/v1/messages", translated, credential)
        created = int(self._clock.now().timestamp())
        completion: MessageStream | BufferedCompletion
        if stream:
            completion = MessageStream(response, created, self._client)
        else:
            translate = partial(_translate_message, created=created, client=self._client)
            completion = BufferedCompletion(response, self._client, translate)
        completion.warnings = tuple(warnings)
        return completion


class MessageStream(HttpCompletion):
    """The events of a message, translated as they arrive."""

    def __init__(self, response: Response, created: int, client: HttpClient) -> None:
        super().__init__(response, client)
        self._decoder = SseDecoder(client.endpoint.max_event_bytes)
        self._translator = EventTranslator(created)
        self._error: UpstreamFailed | None = None

    @property
    def usage(self) -> TokenUsage | None:
        return self._translator.usage

    async def read(self) -> Sequence[bytes]:
        """Return the chunks of the events that arrived together."""
        while not self._ended:
            data = await read_available(self._response)
            payloads = self._decoder.feed(data) if data else self._decoder.flush()
            chunks = self._translate(payloads, self._decoder.names)
            if not data and not self._ended:
                self._ended = True
                self._error = UpstreamInterrupted("the upstream's response was interrupted")
            if chunks:
                return chunks
        if self._error is not None:
            raise self._error
        return ()

    def _translate(self, payloads: list[bytes], names: Sequence[bytes] | None) -> list[bytes]:
        """Return chunks. An error is raised by the next read, so that chunks before it are not lost."""
        chunks = []
        try:
            for position, payload in enumerate(payloads):
                event = parse_object(payload)
                error = find_error(event, names[position] if names is not None else b"")
                if error is not None:
                    raise self._error_of(error)
                chunk = _call_translator(self._translator.translate, event)
                if chunk is not None:
                    chunks.append(chunk)
                if event.get("type") == "message_stop":
                    self._end()
                    break
        except UpstreamFailed as error:
            self.abort()
            self._error = error
        return chunks

    def _error_of(self, error: InnerError) -> UpstreamFailed:
        if self._translator.started:
            return UpstreamInterrupted("the upstream's response was interrupted by an error")
        return self._client.refused(error, self._response)

    def _end(self) -> None:
        if not self._translator.finished:
            raise UpstreamProtocolError("the upstream's message ended without a stop reason")
        self._ended = True
        self.usage_payload = self._translator.usage_payload() if self.usage is not None else b""
        self._response.linger(LINGER_SECONDS)


def _translate_request(body: bytes, warnings: list[str], *, stream: bool) -> bytes:
    try:
        return orjson.dumps(to_messages_request(orjson.loads(body), warnings) | {"stream": stream})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamRejected("the request's body has values of the wrong types", fallback=True) from error


def _translate_message(body: bytes, *, created: int, client: HttpClient) -> tuple[bytes, TokenUsage | None]:
    message = parse_object(body)
    error = find_error(message)
    if error is not None:
        raise client.refused(error)
    completion = _call_translator(message_to_completion, message, created)
    return orjson.dumps(completion), message_usage(message.get("usage") or {})


def _call_translator(translate: Callable[..., T], *args: Any) -> T:
    """Translate without checking types first: what the translation fails on is the upstream's protocol error."""
    try:
        return translate(*args)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamProtocolError("the upstream's response does not follow its protocol") from error
