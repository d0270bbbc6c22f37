"""Doubles of providers: the same answer in the form that each of them documents, or is known to send.

A double answers `TEXT`, counts the tokens that it would charge, and writes them to its journal. `fail=first` sends the
provider's error inside of a response with status 200, `fail=middle` after some chunks of a stream.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from values.usage import TokenDetails

TEXT = "The answer is 42."
WORDS = ("The answer", " is", " 42.")
THOUGHT = "Six times seven."
PROMPT, CACHED, VISIBLE, REASONING = 40, 16, 7, 25
"""Tokens of the prompt, those of it that came from a cache, of the text, and of the thoughts."""
WRITTEN, FOR_AN_HOUR = 8, 3
"""Tokens of the prompt that were written to Anthropic's cache, and those of them that stay for an hour."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Charged:
    """A line of a journal: the tokens that the provider charges."""

    input_tokens: int
    output_tokens: int
    details: TokenDetails | None = None
    """Which of them are of other classes than text."""
    search_units: int = 0
    """What is charged in place of tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, in pieces that are sent one by one."""

    content_type: str
    pieces: Sequence[bytes]
    charged: Charged


@dataclass(frozen=True, slots=True)
class Double:
    """One provider. `stream` and `body` return the pieces of a response; `charged` is what it costs."""

    name: str
    stream: Callable[[str], Iterator[bytes]]
    body: Callable[[], Iterator[bytes]]
    error: object
    charged: Charged
    reasons: bool = False

    def answer(self, *, stream: bool, fail: str = "") -> Answer:
        """Return the response; `fail` is empty, `first` or `middle`."""
        if fail == "first":
            pieces: Sequence[bytes] = [_event(self.error)] if stream else [_dump(self.error)]
        elif stream and fail == "middle":
            pieces = list(self.stream(fail))
        else:
            pieces = list(self.stream("") if stream else self.body())
        charged = self.charged if fail != "first" else Charged(0, 0)
        return Answer("text/event-stream" if stream else "application/json", pieces, charged)


def _dump(document: object) -> bytes:
    return json.dumps(document).encode()


def _event(document: object, name: str = "", end: bytes = b"\n\n") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return (head + b"data: " + _dump(document)).replace(b"\n", end[: len(end) // 2]) + end


def _chunk(delta: Document, reason: str | None = None, **fields: Any) -> Document:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": choices,
    } | fields


def _completion(usage: Document, message: Document | None = None, **fields: Any) -> Document:
    message = {"role": "assistant", "content": TEXT, **(message or {})}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m", "choices": [choice]}
    return completion | {"usage": usage} | fields


def _usage(completion: int, total: int, **fields: Any) -> Document:
    return {"prompt_tokens": PROMPT, "completion_tokens": completion, "total_tokens": total, **fields}


DONE = b"data: [DONE]\n\n"
WITHIN = VISIBLE + REASONING

OPENAI_USAGE = _usage(
    WITHIN,
    PROMPT + WITHIN,
    prompt_tokens_details={"cached_tokens": CACHED, "audio_tokens": 0},
    completion_tokens_details={"reasoning_tokens": REASONING, "audio_tokens": 0},
)
OPENAI_ERROR = {"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}}


def _openai_stream(fail: str) -> Iterator[bytes]:
    common = {"service_tier": "default", "system_fingerprint": "fp_1", "usage": None, "obfuscation": "x"}
    yield _event(_chunk({"role": "assistant", "content": "", "refusal": None}, **common))
    for word in WORDS:
        yield _event(_chunk({"content": word}, **common))
    if fail:
        yield _event(OPENAI_ERROR)
        return
    yield _event(_chunk({}, "stop", **common))
    yield _event(_chunk({}, **common) | {"choices": [], "usage": OPENAI_USAGE})
    yield DONE


def _openai_body() -> Iterator[bytes]:
    yield _dump(_completion(OPENAI_USAGE, {"refusal": None, "annotations": []}, service_tier="default"))


AZURE_ERROR = {"error": {"message": "Too many requests.", "type": None, "code": "429"}}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}


FOUND = [{"prompt_index": 0, "content_filter_results": FILTERED}]
AZURES_FIRST = {"prompt_filter_results": FOUND, "usage": None}


def _azure_stream(fail: str) -> Iterator[bytes]:
    found = [{"prompt_index": 0, "content_filter_results": FILTERED}]
    yield _event(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": found,
            "usage": None,
        }
    )
    yield _event(_chunk({"role": "assistant", "content": ""}, usage=None))
    for word in WORDS:
        chunk = _chunk({"content": word}, usage=None)
        chunk["choices"][0]["content_filter_results"] = FILTERED
        yield _event(chunk)
    if fail:
        yield _event(AZURE_ERROR)
        return
    yield _event(_chunk({}, "stop", usage=None))
    yield _event(_chunk({}) | {"choices": [], "usage": OPENAI_USAGE})
    yield DONE


def _azure_body() -> Iterator[bytes]:
    yield _dump(
        _completion(OPENAI_USAGE, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": FILTERED}])
    )


GEMINI_ERROR = [{"error": {"code": 429, "message": "Resource has been exhausted.", "status": "RESOURCE_EXHAUSTED"}}]
GEMINI_USAGE = _usage(VISIBLE, PROMPT + WITHIN)
"""Its thoughts are in the total only."""


def _gemini_stream(fail: str) -> Iterator[bytes]:
    for number, word in enumerate(WORDS):
        usage = _usage(2 * number + 3, PROMPT + REASONING + 2 * number + 3)
        reason = "stop" if number == len(WORDS) - 1 and not fail else None
        yield _event(_chunk({"role": "assistant", "content": word}, reason, usage=usage), end=b"\r\n\r\n")
    yield _event(GEMINI_ERROR, end=b"\r\n\r\n") if fail else DONE.replace(b"\n", b"\r\n")


def _gemini_body() -> Iterator[bytes]:
    yield json.dumps(_completion(GEMINI_USAGE), indent=1).encode()


DEEPSEEK_USAGE = _usage(
    WITHIN,
    PROMPT + WITHIN,
    prompt_cache_hit_tokens=CACHED,
    prompt_cache_miss_tokens=PROMPT - CACHED,
    completion_tokens_details={"reasoning_tokens": REASONING},
)


def _deepseek_stream(fail: str) -> Iterator[bytes]:
    yield from [b": keep-alive\n\n"] * 3
    yield _event(_chunk({"role": "assistant", "content": None, "reasoning_content": ""}))
    yield _event(_chunk({"content": None, "reasoning_content": THOUGHT}))
    for word in WORDS:
        yield _event(_chunk({"content": word, "reasoning_content": None}))
    if fail:
        yield _event(OPENAI_ERROR)
        return
    yield _event(_chunk({"content": ""}, "stop", usage=DEEPSEEK_USAGE))
    yield DONE


def _deepseek_body() -> Iterator[bytes]:
    yield from [b"\n"] * 3
    yield _dump(_completion(DEEPSEEK_USAGE, {"reasoning_content": THOUGHT}))


OPENROUTER_USAGE = OPENAI_USAGE | {"cost": 0.0012, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
OPENROUTER_ERROR = {
    "id": "gen-1",
    "object": "chat.completion.chunk",
    "created": 7,
    "model": "m",
    "provider": "Someone",
    "error": {"code": 502, "message": "Provider disconnected", "metadata": {"provider_name": "Someone"}},
    "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
}


def _openrouter_stream(fail: str) -> Iterator[bytes]:
    yield from [b": OPENROUTER PROCESSING\n\n"] * 3
    yield _event(_chunk({"role": "assistant", "content": "", "reasoning": THOUGHT}, provider="Someone"))
    for word in WORDS:
        yield _event(_chunk({"role": "assistant", "content": word}, provider="Someone"))
    if fail:
        yield _event(OPENROUTER_ERROR)
        return
    yield _event(_chunk({"role": "assistant", "content": ""}, "stop", provider="Someone"))
    yield _event(_chunk({"role": "assistant", "content": ""}, provider="Someone", usage=OPENROUTER_USAGE))
    yield DONE


def _openrouter_body() -> Iterator[bytes]:
    yield b"\n         \n\n         \n"
    yield _dump(_completion(OPENROUTER_USAGE, {"reasoning": THOUGHT, "refusal": None}, provider="Someone"))


VLLM_ERROR = {
    "object": "error",
    "message": "EngineCore died",
    "type": "InternalServerError",
    "param": None,
    "code": 500,
}
VLLM_USAGE = _usage(VISIBLE, PROMPT + VISIBLE, prompt_tokens_details=None)


def _vllm_stream(fail: str) -> Iterator[bytes]:
    def running(tokens: int) -> Document:
        return _usage(tokens, PROMPT + tokens)

    yield _event(_chunk({"role": "assistant", "content": ""}, usage=running(0)))
    for number, word in enumerate(WORDS):
        yield _event(_chunk({"content": word}, usage=running(2 * number + 2)))
    if fail:
        yield _event({"error": VLLM_ERROR})
        return
    yield _event(_chunk({"content": ""}, "stop", usage=running(VISIBLE)))
    yield _event(_chunk({}) | {"choices": [], "usage": VLLM_USAGE})
    yield DONE


def _vllm_body() -> Iterator[bytes]:
    yield _dump(_completion(VLLM_USAGE, {"tool_calls": [], "reasoning_content": None}, prompt_logprobs=None))


LLAMA_ERROR = {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}
LLAMA_USAGE = _usage(VISIBLE, PROMPT + VISIBLE)
TIMINGS = {"prompt_n": PROMPT, "cache_n": 0, "predicted_n": VISIBLE, "predicted_ms": 1.5}


def _llama_stream(fail: str) -> Iterator[bytes]:
    yield _event(_chunk({"role": "assistant", "content": None}))
    for word in WORDS:
        yield _event(_chunk({"content": word}))
    if fail:
        yield b"error: " + _dump(LLAMA_ERROR["error"]) + b"\n\n" + _event(LLAMA_ERROR)
        return
    yield _event(_chunk({}, "stop"))
    yield _event(_chunk({}) | {"choices": [], "usage": LLAMA_USAGE, "timings": TIMINGS})
    yield DONE


def _llama_body() -> Iterator[bytes]:
    yield _dump(_completion(LLAMA_USAGE, timings=TIMINGS))


ANTHROPIC_ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}
ANTHROPIC_USAGE = {
    "input_tokens": PROMPT - CACHED - WRITTEN,
    "cache_read_input_tokens": CACHED,
    "cache_creation_input_tokens": WRITTEN,
    "cache_creation": {"ephemeral_5m_input_tokens": WRITTEN - FOR_AN_HOUR, "ephemeral_1h_input_tokens": FOR_AN_HOUR},
    "output_tokens": WITHIN,
}
SIGNED = {"type": "thinking", "thinking": THOUGHT, "signature": "c2lnbmVk"}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}


def _anthropic_stream(fail: str) -> Iterator[bytes]:
    def named(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    start: Document = MESSAGE | {"content": [], "stop_reason": None, "usage": ANTHROPIC_USAGE | {"output_tokens": 1}}
    yield named("message_start", message=start)
    yield named("ping")
    yield named("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
    yield named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": THOUGHT})
    yield named("content_block_delta", index=0, delta={"type": "signature_delta", "signature": SIGNED["signature"]})
    yield named("content_block_stop", index=0)
    yield named("content_block_start", index=1, content_block={"type": "text", "text": ""})
    for word in WORDS:
        yield named("content_block_delta", index=1, delta={"type": "text_delta", "text": word})
    if fail:
        yield _event(ANTHROPIC_ERROR, "error")
        return
    yield named("content_block_stop", index=1)
    yield named("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=ANTHROPIC_USAGE)
    yield named("message_stop")


def _anthropic_body() -> Iterator[bytes]:
    content = [SIGNED, {"type": "text", "text": TEXT}]
    yield _dump(MESSAGE | {"content": content, "stop_reason": "end_turn", "usage": ANTHROPIC_USAGE})


XAI_USAGE = _usage(
    VISIBLE,
    PROMPT + WITHIN,
    prompt_tokens_details={"text_tokens": PROMPT, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": CACHED},
    completion_tokens_details={"reasoning_tokens": REASONING, "audio_tokens": 0, "accepted_prediction_tokens": 0},
    num_sources_used=0,
    cost_in_usd_ticks=158500,
)
"""Its reasoning stands beside the completion, and its text tokens include the cached ones."""
XAI_ERROR = {"code": "The service is currently unavailable", "error": "The model is overloaded."}


def _xai_stream(fail: str) -> Iterator[bytes]:
    yield _event(_chunk({"role": "assistant", "reasoning_content": THOUGHT}))
    for word in WORDS:
        yield _event(_chunk({"role": "assistant", "content": word}))
    if fail:
        yield _event(XAI_ERROR)
        return
    yield _event(_chunk({"role": "assistant", "content": ""}, "stop"))
    yield _event(_chunk({}) | {"choices": [], "usage": XAI_USAGE})
    yield DONE


def _xai_body() -> Iterator[bytes]:
    yield _dump(_completion(XAI_USAGE, {"reasoning_content": THOUGHT, "refusal": None}))


_ALL = Charged(PROMPT, WITHIN, TokenDetails(cached_input=CACHED, reasoning_output=REASONING))
_THOUGHTS = Charged(PROMPT, WITHIN, TokenDetails(reasoning_output=REASONING))
_CACHE = Charged(PROMPT, WITHIN, TokenDetails(CACHED, WRITTEN - FOR_AN_HOUR, FOR_AN_HOUR))
_PLAIN = Charged(PROMPT, VISIBLE)

DOUBLES = {
    double.name: double
    for double in (
        Double("openai", _openai_stream, _openai_body, OPENAI_ERROR, _ALL),
        Double("azure", _azure_stream, _azure_body, AZURE_ERROR, _ALL),
        Double("gemini", _gemini_stream, _gemini_body, GEMINI_ERROR, _THOUGHTS),
        Double("deepseek", _deepseek_stream, _deepseek_body, OPENAI_ERROR, _ALL, reasons=True),
        Double("openrouter", _openrouter_stream, _openrouter_body, OPENROUTER_ERROR, _ALL, reasons=True),
        Double("xai", _xai_stream, _xai_body, XAI_ERROR, _ALL, reasons=True),
        Double("vllm", _vllm_stream, _vllm_body, VLLM_ERROR, _PLAIN),
        Double("llamacpp", _llama_stream, _llama_body, LLAMA_ERROR, _PLAIN),
        Double("anthropic", _anthropic_stream, _anthropic_body, ANTHROPIC_ERROR, _CACHE, reasons=True),
    )
}
