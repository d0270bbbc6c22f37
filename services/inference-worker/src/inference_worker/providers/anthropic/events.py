"""Translates messages and events of Anthropic's Messages API into OpenAI's chat completions."""

from collections.abc import Iterable
from typing import Any

import orjson
from values.usage import TokenUsage, UsageSource

from inference_worker.providers.token_details import (
    CACHE_CREATION,
    CACHE_READ,
    details_of,
    is_token_count,
    shown_details,
)

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class EventTranslator:
    """Turns the events of one message into chunks."""

    def __init__(self, created: int) -> None:
        self._created = created
        self._id = ""
        self._model = ""
        self._tool_index = -1
        self._block: dict[str, Any] = {}
        """What has to be given whole at the end of a block: its thinking with the signature, or empty arguments."""
        self._counts: dict[str, Any] = {}
        self.finished = False

    @property
    def started(self) -> bool:
        """Whether the message has begun."""
        return bool(self._id)

    @property
    def usage(self) -> TokenUsage | None:
        """The usage reported so far. The output tokens are final only once the message is finished."""
        return message_usage(self._counts, output_is_final=self.finished)

    def usage_payload(self) -> bytes:
        """Return OpenAI's last chunk, which holds nothing but usage."""
        chunk = self._chunk([])
        chunk["usage"] = to_openai_usage(self._counts)
        return orjson.dumps(chunk)

    def translate(self, event: dict[str, Any]) -> bytes | None:
        """Return the chunk of an event; None when it has nothing for the client.

        Error events are its caller's.
        """
        kind = event.get("type")
        if kind == "message_start":
            return self._start_message(event["message"])
        if kind == "content_block_start":
            return self._start_block(event["content_block"])
        if kind == "content_block_delta":
            return self._extend_block(event["delta"])
        if kind == "content_block_stop":
            return self._end_block()
        if kind == "message_delta":
            return self._finish(event)
        return None

    def _start_message(self, message: dict[str, Any]) -> bytes:
        self._id, self._model = message["id"], message["model"]
        self._counts = dict(message.get("usage") or {})
        return self._delta({"role": "assistant", "content": ""})

    def _start_block(self, block: dict[str, Any]) -> bytes | None:
        self._block = dict(block)
        if block["type"] == "tool_use":
            self._tool_index += 1
            function = {"name": block["name"], "arguments": ""}
            call = {"index": self._tool_index, "id": block["id"], "type": "function", "function": function}
            return self._delta({"tool_calls": [call]})
        return self._delta({"content": block["text"]}) if block.get("text") else None

    def _extend_block(self, delta: dict[str, Any]) -> bytes | None:
        if delta["type"] == "text_delta":
            return self._delta({"content": delta["text"]})
        if delta["type"] == "signature_delta":
            self._block["signature"] = delta["signature"]
            return None
        if delta["type"] == "input_json_delta":
            if delta["partial_json"]:
                self._block.pop("input", None)
            call = {"index": self._tool_index, "function": {"arguments": delta["partial_json"]}}
            return self._delta({"tool_calls": [call]})
        if delta["type"] == "thinking_delta":
            self._block["thinking"] = self._block.get("thinking", "") + delta["thinking"]
            return self._delta({"reasoning_content": delta["thinking"]})
        return None

    def _end_block(self) -> bytes | None:
        block, self._block = self._block, {}
        if block.get("type") == "tool_use" and "input" in block:
            # No piece of the arguments came: they are those that the block began with, usually none.
            arguments = orjson.dumps(block["input"] or {}).decode()
            return self._delta({"tool_calls": [{"index": self._tool_index, "function": {"arguments": arguments}}]})
        return self._delta({"thinking_blocks": [block]}) if is_signed_thinking(block) else None

    def _finish(self, event: dict[str, Any]) -> bytes:
        self._counts |= {key: value for key, value in (event.get("usage") or {}).items() if value is not None}
        self.finished = True
        return self._delta({}, finish_reason(event["delta"].get("stop_reason")))

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return orjson.dumps(self._chunk([{"index": 0, "delta": delta, "finish_reason": reason}]))

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def message_to_completion(message: dict[str, Any], created: int) -> dict[str, Any]:
    """Translate a message that is not streamed."""
    blocks = message["content"]
    translated: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text") or None, "refusal": None}
    thinking = _joined(blocks, "thinking")
    if thinking:
        translated["reasoning_content"] = thinking
    signed = [block for block in blocks if is_signed_thinking(block)]
    if signed:
        translated["thinking_blocks"] = signed
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    if calls:
        translated["tool_calls"] = calls
    reason = finish_reason(message.get("stop_reason"))
    counts = message.get("usage") or {}
    completion = {
        "id": message["id"],
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [{"index": 0, "message": translated, "logprobs": None, "finish_reason": reason}],
    }
    # Without a report there is none: zeros would be taken for one.
    return completion if message_usage(counts) is None else completion | {"usage": to_openai_usage(counts)}


def is_signed_thinking(block: dict[str, Any]) -> bool:
    """Tell whether a block has to come back unchanged in the next turn of a conversation with tools."""
    kind = block.get("type")
    return kind == "redacted_thinking" or (kind == "thinking" and bool(block.get("signature")))


def finish_reason(stop_reason: object) -> str:
    """Translate a stop reason; an unknown one becomes `stop`."""
    return FINISH_REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def message_usage(counts: dict[str, Any], *, output_is_final: bool = True) -> TokenUsage | None:
    """Return the usage in Anthropic's counts; None when not even the prompt's is there."""
    input_tokens, output_tokens = _input_tokens(counts), counts.get("output_tokens")
    if not is_token_count(counts.get("input_tokens")) or not is_token_count(input_tokens):
        return None
    output = output_tokens if output_is_final and is_token_count(output_tokens) else None
    details = details_of(counts, input_tokens, output or 0, 0)
    return TokenUsage(UsageSource.REPORTED, input_tokens, output, details)


def to_openai_usage(counts: dict[str, Any]) -> dict[str, Any]:
    """Translate Anthropic's counts: OpenAI's prompt tokens include those of the cache. Its names stand beside."""
    input_tokens, output_tokens = _input_tokens(counts), _count(counts, "output_tokens")
    details = details_of(counts, input_tokens, output_tokens, 0)
    usage: dict[str, Any] = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    if details is None:
        return usage
    cache = {name: counts[name] for name in (CACHE_READ, CACHE_CREATION, "cache_creation") if counts.get(name)}
    return usage | cache | shown_details(usage | cache, details)


def _input_tokens(counts: dict[str, Any]) -> int:
    names = ("input_tokens", CACHE_CREATION, CACHE_READ)
    return sum(_count(counts, name) for name in names)


def _count(counts: dict[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if is_token_count(value) else 0


def _joined(blocks: Iterable[dict[str, Any]], kind: str) -> str:
    return "".join(block[kind] for block in blocks if block["type"] == kind)


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}
