"""All other providers, through litellm. Only this file imports it, and only when a plan names such an upstream.

litellm takes 250 MB and some seconds once, and milliseconds per request; so upstreams with OpenAI's or Anthropic's API
do not use it.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any, Literal

import orjson
from chassis.clock import Clock
from pydantic import Field, SecretStr
from values.usage import TokenUsage

from inference_worker.providers.config import BaseUrl, TokenCounterConfig
from inference_worker.providers.json_fields import openai_usage, parse_object
from inference_worker.providers.model import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTimedOut,
)
from inference_worker.providers.ports import Completion, Upstream
from inference_worker.providers.transport.errors import status_error

# The body is the client's: any other field would be taken for litellm's own arguments, such as `api_base` or `api_key`.
# fmt: off
ALLOWED_PARAMS = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "reasoning_effort", "response_format", "seed", "stop", "stream_options", "temperature", "thinking", "tool_choice",
    "tools", "top_logprobs", "top_p", "user", "verbosity",
})
# fmt: on

# The plan has its own timeouts, which are shorter, and its own retries.
FIXED_ARGUMENTS = {"timeout": 3600.0, "num_retries": 0, "max_retries": 0}

MIN_SECRET_CHARACTERS = 16
"""Shorter options are regions and versions."""

_ERROR_PREFIX = re.compile(r"^(?:litellm\.)?(?:\w+(?:Error|Exception)(?::| -) *)+")


class LitellmConfig(TokenCounterConfig):
    """Any other provider, through litellm: 250 MB more memory from its first call on."""

    kind: Literal["litellm"]
    litellm_provider: str = Field(min_length=1, description="litellm's name of the provider, such as `gemini`.")
    base_url: BaseUrl | None = Field(None, description="Address of the API; litellm's default when unset.")
    api_key: SecretStr | None = Field(None, description="Credential; litellm reads its own variables when unset.")
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="More of litellm's arguments, such as `api_version` or `aws_region_name`."
    )

    def arguments(self) -> dict[str, str]:
        arguments = {name: value.get_secret_value() for name, value in self.options.items()}
        return arguments | ({"api_key": self.api_key.get_secret_value()} if self.api_key else {})

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        provider = LitellmProvider(self.litellm_provider, self.base_url, self.arguments())
        stack.push_async_callback(provider.close)
        return Upstream(self.token_counter(), provider=provider)


class LitellmProvider:
    def __init__(self, name: str, base_url: str | None, arguments: dict[str, str]) -> None:
        """`name` is litellm's of the provider, `arguments` are more of litellm's, credentials among them."""
        self._name = name
        self._arguments = {**arguments, "api_base": base_url, **FIXED_ARGUMENTS}
        self._secrets = tuple(value for value in arguments.values() if len(value) >= MIN_SECRET_CHARACTERS)
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, model: str, body: bytes, *, stream: bool) -> Completion:
        """Let litellm translate and send. Unless it is streamed, the response has been read when this returns."""
        litellm = await asyncio.to_thread(_load)
        arguments = {**self._params(body), **self._arguments, "model": f"{self._name}/{model}"}
        try:
            response = await litellm.acompletion(**arguments, stream=stream)
        except Exception as error:
            raise self.to_upstream_error(error) from error
        return LitellmStream(response, self) if stream else LitellmResponse(response)

    async def close(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        if _load.cache_info().currsize:
            await _load().close_litellm_async_clients()

    def close_in_background(self, stream: Any) -> None:
        """Close a stream: `abort` cannot await, and litellm's `aclose` must be awaited."""
        closing = asyncio.ensure_future(stream.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: "asyncio.Task[None]") -> None:
        self._closing.discard(closing)
        if not closing.cancelled():
            # Retrieved so that asyncio does not log it: the stream counts as closed either way.
            closing.exception()

    def _params(self, body: bytes) -> dict[str, Any]:
        try:
            return {name: value for name, value in orjson.loads(body).items() if name in ALLOWED_PARAMS}
        except (AttributeError, ValueError) as error:
            raise UpstreamRejected("the request's body is not a JSON object") from error

    def to_upstream_error(self, error: Exception) -> UpstreamFailed:
        """Translate an exception that litellm raised."""
        if isinstance(error, UpstreamFailed):
            return error
        litellm = _load()
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            return UpstreamProtocolError("the upstream's response could not be translated")
        if isinstance(error, litellm.Timeout):
            return UpstreamTimedOut("the upstream did not respond in time")
        if isinstance(error, litellm.UnsupportedParamsError):
            return UpstreamRejected("this upstream does not support a parameter of the request", fallback=True)
        message = _ERROR_PREFIX.sub("", str(getattr(error, "message", "")))
        return status_error(status, message, self._secrets)


class LitellmStream:
    """litellm's chunks, as JSON."""

    def __init__(self, stream: Any, provider: LitellmProvider) -> None:
        self._stream = stream
        self._chunks: AsyncIterator[Any] = aiter(stream)
        self._provider = provider
        self._started = False
        self._ended = False
        self.usage: TokenUsage | None = None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """Return one chunk at a time: litellm does not tell whether more have arrived."""
        while not self._ended:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                self._end()
            except Exception as error:
                if self._started:
                    raise UpstreamInterrupted("the upstream's response was interrupted") from error
                raise self._provider.to_upstream_error(error) from error
            else:
                payload = self._to_payload(chunk.model_dump(exclude_none=True))
                if payload is not None:
                    return (payload,)
        return ()

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._provider.close_in_background(self._stream)

    def _to_payload(self, chunk: dict[str, Any]) -> bytes | None:
        usage = openai_usage(chunk)
        if usage is not None:
            # litellm estimates when the provider reports nothing; our estimate has the right tokenizer, or none.
            if any(getattr(earlier, "usage", None) for earlier in self._stream.chunks):
                self.usage, self.usage_payload = usage, orjson.dumps(chunk | {"choices": []})
            return None
        for choice in chunk.get("choices", ()):
            self._started = self._started or any(choice.get("delta", {}).values())
            choice.setdefault("finish_reason", None)
        return orjson.dumps(chunk) if self._started else None

    def _end(self) -> None:
        if not self._started:
            raise UpstreamProtocolError("the upstream's stream is empty")
        self._ended = True


class LitellmResponse:
    """A completion that is not streamed; litellm has already read it."""

    def __init__(self, response: Any) -> None:
        self._body: bytes = response.model_dump_json(exclude_none=True).encode()
        self._ended = False
        usage = openai_usage(parse_object(self._body))
        # litellm writes zero for both when the provider reports nothing.
        self.usage = usage if usage is not None and (usage.input_tokens or usage.output_tokens) else None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        if self._ended:
            return ()
        self._ended = True
        return (self._body,)

    def abort(self) -> None:
        self._ended = True


@lru_cache(maxsize=1)
def _load() -> Any:
    # Otherwise it asks the network for prices at import.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # noqa: PLC0415

    # It logs failed requests with their prompts; the worker's own log has the failure.
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # Image URLs are the clients': litellm rejects those that lead into private networks.
    litellm.user_url_validation = True
    return litellm
