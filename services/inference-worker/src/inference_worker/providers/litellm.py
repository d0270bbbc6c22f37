"""Every other provider, through litellm: the only file that imports it, and only when a plan names such an upstream.

It costs 250 MB and some seconds once, and milliseconds per request; so OpenAI-shaped and Anthropic's upstreams have
a way of their own.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from inference_worker.adapters.documents import as_object, usage_of
from inference_worker.adapters.refusals import refusal
from inference_worker.domain.failures import (
    UpstreamCut,
    UpstreamFailed,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamTimedOut,
)
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Answer
from inference_worker.domain.usage import Usage

# A body is a client's. Anything else in it would be taken for litellm's own arguments: `api_base`, `api_key`, …
PASSED_ON = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    ]
)

# The plan's leash ends a call earlier.
TIMEOUT_SECONDS = 3600.0

_PREFIX = re.compile(r"^(?:litellm\.)?(?:\w+(?:Error|Exception)(?::| -) *)+")


@dataclass(frozen=True, slots=True)
class Account:
    """Where litellm sends requests, and as whom."""

    provider: str
    """litellm's name of the provider, such as `bedrock` or `gemini`."""
    base_url: str | None = None
    options: dict[str, str] = field(default_factory=dict, repr=False)
    """More of litellm's arguments, credentials among them."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be shown; short ones are regions and versions."""
        return tuple(value for value in self.options.values() if len(value) >= 16)


class LitellmProvider:
    """Chat completions of whatever litellm knows."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:
        """Let litellm translate and send; a whole answer has been read when this returns."""
        litellm = await asyncio.to_thread(_load)
        try:
            said = await litellm.acompletion(**self._arguments(candidate), stream=stream)
        except Exception as error:
            raise self.failure_of(error) from error
        return StreamedLitellm(said, self) if stream else WholeLitellm(said)

    async def close(self) -> None:
        """Let go of litellm's connections, if there are any."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        if _load.cache_info().currsize:
            await _load().close_litellm_async_clients()

    def let_go(self, stream: Any) -> None:
        """Close a stream in the background, which takes litellm an await."""
        closing = asyncio.ensure_future(stream.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: "asyncio.Task[None]") -> None:
        self._closing.discard(closing)
        if not closing.cancelled():
            # Asked for, so that nobody complains: a stream that cannot be closed is closed.
            closing.exception()

    def _arguments(self, candidate: Candidate) -> dict[str, Any]:
        try:
            body = orjson.loads(candidate.body)
            wanted = {name: value for name, value in body.items() if name in PASSED_ON}
        except (AttributeError, ValueError) as error:
            raise UpstreamRefused("the request's body is not a JSON object") from error
        return {
            **wanted,
            **self._account.options,
            "model": f"{self._account.provider}/{candidate.model}",
            "api_base": self._account.base_url,
            "timeout": TIMEOUT_SECONDS,
            "num_retries": 0,
            "max_retries": 0,
        }

    def failure_of(self, error: Exception) -> UpstreamFailed:
        """What an error of litellm's stands for."""
        if isinstance(error, UpstreamFailed):
            return error
        litellm = _load()
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            return UpstreamGarbage("the upstream's answer could not be translated")
        if isinstance(error, litellm.Timeout):
            return UpstreamTimedOut("the upstream did not answer in time")
        if isinstance(error, litellm.UnsupportedParamsError):
            return UpstreamRefused("this upstream does not know a parameter of the request", fallback=True)
        message = _PREFIX.sub("", str(getattr(error, "message", "")))
        return refusal(status, message, self._account.secrets)


class StreamedLitellm:
    """litellm's chunks, as JSON."""

    def __init__(self, stream: Any, provider: LitellmProvider) -> None:
        self._stream = stream
        self._chunks: AsyncIterator[Any] = aiter(stream)
        self._provider = provider
        self._said_anything = False
        self._over = False
        self.usage: Usage | None = None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """One chunk at a time: litellm does not say whether more have arrived."""
        while not self._over:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                self._end()
            except Exception as error:
                if self._said_anything:
                    raise UpstreamCut("the upstream broke off its answer") from error
                raise self._provider.failure_of(error) from error
            else:
                payload = self._payload(chunk.model_dump(exclude_none=True))
                if payload is not None:
                    return (payload,)
        return ()

    def abort(self) -> None:
        """Close litellm's stream."""
        if not self._over:
            self._over = True
            self._provider.let_go(self._stream)

    def _payload(self, chunk: dict[str, Any]) -> bytes | None:
        usage = usage_of(chunk)
        if usage is not None:
            # litellm counts itself when the provider says nothing; ours is the better tokenizer, or none.
            if any(getattr(earlier, "usage", None) for earlier in self._stream.chunks):
                self.usage, self.usage_payload = usage, orjson.dumps(chunk | {"choices": []})
            return None
        for choice in chunk.get("choices", ()):
            self._said_anything = self._said_anything or any(choice.get("delta", {}).values())
            choice.setdefault("finish_reason", None)
        return orjson.dumps(chunk) if self._said_anything else None

    def _end(self) -> None:
        if not self._said_anything:
            raise UpstreamGarbage("the upstream's stream holds no answer")
        self._over = True


class WholeLitellm:
    """A whole answer, which litellm has already read."""

    def __init__(self, answer: Any) -> None:
        self._body: bytes = answer.model_dump_json(exclude_none=True).encode()
        self._over = False
        usage = usage_of(as_object(self._body))
        # litellm's zero for both means that the provider said nothing.
        self.usage = usage if usage is not None and (usage.input_tokens or usage.output_tokens) else None
        self.usage_payload = b""

    async def read(self) -> Sequence[bytes]:
        """The body, and then nothing."""
        if self._over:
            return ()
        self._over = True
        return (self._body,)

    def abort(self) -> None:
        """Nothing is left to break off."""
        self._over = True


@lru_cache(maxsize=1)
def _load() -> Any:
    # Otherwise it asks the network for prices at import.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm  # noqa: PLC0415

    # It logs requests when they fail, and so prompts; what went wrong is in our own log.
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # Image URLs are the clients': litellm refuses those that lead into private networks.
    litellm.user_url_validation = True
    return litellm
