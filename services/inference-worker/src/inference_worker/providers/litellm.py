"""All other providers, through litellm. Only this file imports it, and only when a plan names such an upstream.

litellm takes 250 MB and some seconds once, and milliseconds per request; so upstreams with OpenAI's or Anthropic's API
do not use it.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any, Literal

import orjson
from chassis.clock import Clock
from pydantic import Field, SecretStr, field_validator
from values.usage import TokenUsage

from inference_worker.providers.config import BaseUrl, TokenCounterConfig, static_credentials
from inference_worker.providers.credentials import Credential
from inference_worker.providers.http_observation import Exchange, observe_httpx, observed_exchange
from inference_worker.providers.litellm_errors import status_error
from inference_worker.providers.model import (
    UnsupportedParameter,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTimedOut,
)
from inference_worker.providers.payloads import dump, parse_object
from inference_worker.providers.ports import Completion, Upstream
from inference_worker.providers.reported_usage import openai_usage, shown_usage

# The body is the client's: any other field would be taken for litellm's own arguments, such as `api_base` or `api_key`.
# fmt: off
ALLOWED_PARAMS = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "reasoning_effort", "response_format", "seed", "stop", "stream_options", "temperature", "thinking", "tool_choice",
    "tools", "top_logprobs", "top_p", "user", "verbosity",
})
# fmt: on

DOWNLOADING_PROVIDERS = frozenset({"anthropic", "bedrock", "gemini", "vertex_ai", "vertex_ai_beta"})
"""For these litellm fetches what a link leads to, and passes it on as what it is: an "image" may be a long document."""

# The plan has its own timeouts, which are shorter, and its own retries.
FIXED_ARGUMENTS = {"timeout": 3600.0, "num_retries": 0, "max_retries": 0}

MIN_SECRET_CHARACTERS = 16
"""Shorter options are regions and versions."""

_UNREADABLE = (
    *("json.JSONDecodeError", "pydantic_core.ValidationError", "openai.APIResponseValidationError"),
    *("builtins.AttributeError", "builtins.LookupError", "builtins.TypeError"),
)
"""What reading a response raises; wrapped by litellm, it looks like a rejected request."""


class LitellmConfig(TokenCounterConfig):
    """Any other provider, through litellm: 250 MB more memory from its first call on."""

    kind: Literal["litellm"]
    litellm_provider: str = Field(min_length=1, description="litellm's name of the provider, such as `gemini`.")
    base_url: BaseUrl | None = Field(None, description="Address of the API; litellm's default when unset.")
    api_key: SecretStr | None = Field(None, description="Credential; litellm reads its own variables when unset.")
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="More of litellm's arguments, such as `api_version` or `aws_region_name`."
    )

    @field_validator("base_url")
    @classmethod
    def _has_no_query(cls, value: str | None) -> str | None:
        if value is not None and ("?" in value or "#" in value):
            raise ValueError("must have no query: litellm drops it; give `options` instead, such as `api_version`")
        return value

    def arguments(self) -> dict[str, str]:
        arguments = {name: value.get_secret_value() for name, value in self.options.items()}
        return arguments | ({"api_key": self.api_key.get_secret_value()} if self.api_key else {})

    async def open(self, clock: Clock, stack: AsyncExitStack) -> Upstream:  # noqa: ARG002 - part of the base class
        provider = LitellmProvider(self.litellm_provider, self.base_url, self.arguments())
        stack.push_async_callback(provider.close)
        return Upstream(
            self.token_counter(),
            provider=provider,
            credentials=static_credentials([self.api_key.get_secret_value()] if self.api_key else []),
        )


class LitellmProvider:
    def __init__(self, name: str, base_url: str | None, arguments: dict[str, str]) -> None:
        """`name` is litellm's of the provider, `arguments` are more of litellm's, credentials among them."""
        self._name = name
        self._arguments = {**arguments, "api_base": base_url, **FIXED_ARGUMENTS}
        self._secrets = tuple(value for value in arguments.values() if len(value) >= MIN_SECRET_CHARACTERS)
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Credential | None = None) -> Completion:
        """Let litellm translate and send. Unless it is streamed, the response has been read when this returns."""
        litellm = await asyncio.to_thread(_load)
        params = self._params(body)
        if self._name in DOWNLOADING_PROVIDERS and _has_links(params.get("messages")):
            raise UpstreamRejected("this upstream takes images inline only, as data URLs", fallback=True)
        arguments = {**params, **self._arguments, "model": f"{self._name}/{model}"}
        secrets = self._secrets
        if credential is not None:
            arguments["api_key"] = credential.secret
            secrets = (*secrets, credential.secret)
        with observed_exchange() as exchange:
            try:
                response = await litellm.acompletion(**arguments, stream=stream)
                return LitellmStream(response, self, exchange, secrets) if stream else LitellmResponse(response)
            except Exception as error:
                raise self.to_upstream_error(error, exchange, secrets) from error

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

    def to_upstream_error(self, error: Exception, exchange: Exchange, secrets: tuple[str, ...]) -> UpstreamFailed:
        """Translate an exception that litellm raised, by what was seen of the call.

        litellm has one exception for a request that the provider rejects and for a response that litellm cannot read,
        which was paid for.
        """
        if isinstance(error, UpstreamFailed):
            return error
        litellm = _load()
        if exchange.status and not 200 <= exchange.status < 300:
            return status_error(exchange.status, error, secrets)
        if isinstance(error, litellm.Timeout):
            return UpstreamTimedOut("the upstream did not respond in time")
        if exchange.status:
            if _causes(error, "httpx.TransportError", "aiohttp.ClientError"):
                return UpstreamInterrupted("the upstream's response was interrupted")
            return UpstreamProtocolError("the upstream's response could not be translated")
        if exchange.sent:
            if _causes(error, "httpx.ConnectError", "httpx.PoolTimeout"):
                return UpstreamFailed("the upstream cannot be reached")
            return UpstreamFailed("the upstream dropped the connection", maybe_billed=True)
        return self._unsent_error(error, secrets)

    def _unsent_error(self, error: Exception, secrets: tuple[str, ...]) -> UpstreamFailed:
        """Translate an error of a call that httpx did not send: litellm refused it, or sent it in another way."""
        if isinstance(error, _load().UnsupportedParamsError):
            return UnsupportedParameter("this upstream does not support a parameter of the request")
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or _causes(error, *_UNREADABLE):
            return UpstreamProtocolError("the upstream's response could not be translated")
        return status_error(status, error, secrets)


class LitellmStream:
    """litellm's chunks, as JSON."""

    def __init__(self, stream: Any, provider: LitellmProvider, exchange: Exchange, secrets: tuple[str, ...]) -> None:
        self._stream = stream
        self._secrets = secrets
        self._exchange = exchange
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
                payload = self._to_payload(chunk.model_dump(exclude_none=True))
            except StopAsyncIteration:
                self._end()
            except Exception as error:
                if self._started:
                    raise UpstreamInterrupted("the upstream's response was interrupted") from error
                raise self._provider.to_upstream_error(error, self._exchange, self._secrets) from error
            else:
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
                self.usage = usage
                self.usage_payload = orjson.dumps(chunk | {"choices": [], "usage": shown_usage(chunk)})
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
        completion = parse_object(self._body)
        usage = openai_usage(completion)
        self._has_choices = bool(completion.get("choices"))
        # litellm writes zero for both when the provider reports nothing.
        self.usage = usage if usage is not None and (usage.input_tokens or usage.output_tokens) else None
        self.usage_payload = b""
        if self.usage is not None:
            self._body = dump(completion | {"usage": shown_usage(completion)})

    async def read(self) -> Sequence[bytes]:
        """Return the body. Raises `UpstreamProtocolError` here and not before, so that a reported usage counts."""
        if self._ended:
            return ()
        self._ended = True
        if not self._has_choices:
            raise UpstreamProtocolError("the upstream's response has no choices")
        return (self._body,)

    def abort(self) -> None:
        self._ended = True


def _has_links(messages: object) -> bool:
    """Tell whether an image of a message is a link."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            image = part.get("image_url") if isinstance(part, dict) else None
            url = image.get("url") if isinstance(image, dict) else image
            if url is not None and not (isinstance(url, str) and url[:5].lower() == "data:"):
                return True
    return False


def _causes(error: BaseException | None, *names: str) -> bool:
    """Tell whether `error`, or what it was raised from, is of a class named `module.Class`, by its bases too.

    By name: the classes belong to libraries that are loaded with litellm only.
    """
    while error is not None:
        classes = (f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__)
        if not set(names).isdisjoint(classes):
            return True
        error = error.__cause__ or error.__context__
    return False


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
    observe_httpx()
    return litellm
