"""What Anthropic's Messages API says, in the words of OpenAI's chat completions."""

from collections.abc import Iterable
from typing import Any

import orjson

from inference_worker.adapters.documents import is_count
from inference_worker.domain.failures import UpstreamCut, UpstreamFailed
from inference_worker.domain.usage import Usage, UsageSource

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
    """Turns one message's events into chunks, one event at a time."""

    def __init__(self, created: int) -> None:
        self._created = created
        self._id = ""
        self._model = ""
        self._tools = -1
        self._said: dict[str, Any] = {}
        self.finished = False

    @property
    def usage(self) -> Usage | None:
        """Tokens as far as they were said. The written ones are final only once the message is finished."""
        return usage_of(self._said, written=self.finished)

    def usage_payload(self) -> bytes:
        """OpenAI's last chunk: nothing but usage."""
        chunk = self._chunk([])
        chunk["usage"] = openai_usage(self._said)
        return orjson.dumps(chunk)

    def translate(self, event: dict[str, Any]) -> bytes | None:
        """The chunk that an event stands for; None when it has nothing for the client.

        Raises `UpstreamFailed`, or `UpstreamCut` once the message had begun, for an error event.
        """
        kind = event.get("type")
        if kind == "error":
            if self._id:
                raise UpstreamCut("the upstream broke off with an error")
            raise UpstreamFailed("the upstream failed before its answer began")
        if kind == "message_start":
            return self._begin(event["message"])
        if kind == "content_block_start":
            return self._block_begins(event["content_block"])
        if kind == "content_block_delta":
            return self._block_grows(event["delta"])
        if kind == "message_delta":
            return self._end(event)
        return None

    def _begin(self, message: dict[str, Any]) -> bytes:
        self._id, self._model = message["id"], message["model"]
        self._said = dict(message.get("usage") or {})
        return self._delta({"role": "assistant", "content": ""})

    def _block_begins(self, block: dict[str, Any]) -> bytes | None:
        if block["type"] == "tool_use":
            self._tools += 1
            function = {"name": block["name"], "arguments": ""}
            call = {"index": self._tools, "id": block["id"], "type": "function", "function": function}
            return self._delta({"tool_calls": [call]})
        return self._delta({"content": block["text"]}) if block.get("text") else None

    def _block_grows(self, delta: dict[str, Any]) -> bytes | None:
        if delta["type"] == "text_delta":
            return self._delta({"content": delta["text"]})
        if delta["type"] == "input_json_delta":
            call = {"index": self._tools, "function": {"arguments": delta["partial_json"]}}
            return self._delta({"tool_calls": [call]})
        if delta["type"] == "thinking_delta":
            return self._delta({"reasoning_content": delta["thinking"]})
        return None

    def _end(self, event: dict[str, Any]) -> bytes:
        self._said |= {key: value for key, value in (event.get("usage") or {}).items() if value is not None}
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


def to_chat_completion(message: dict[str, Any], created: int) -> dict[str, Any]:
    """A whole message as a whole chat completion."""
    blocks = message["content"]
    answer: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text") or None, "refusal": None}
    thinking = _joined(blocks, "thinking")
    if thinking:
        answer["reasoning_content"] = thinking
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    if calls:
        answer["tool_calls"] = calls
    reason = finish_reason(message.get("stop_reason"))
    return {
        "id": message["id"],
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": reason}],
        "usage": openai_usage(message.get("usage") or {}),
    }


def finish_reason(stop_reason: object) -> str:
    """Why the answer ended; a reason that is not known yet reads as an ordinary end."""
    return FINISH_REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def usage_of(said: dict[str, Any], *, written: bool = True) -> Usage | None:
    """Anthropic's counts; None when not even the prompt's is there. `written` says whether the answer's is final."""
    read, output = _read(said), said.get("output_tokens")
    if not is_count(said.get("input_tokens")) or not is_count(read):
        return None
    return Usage(UsageSource.REPORTED, read, output if written and is_count(output) else None)


def openai_usage(said: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's counts in OpenAI's words: the prompt includes what came from the cache."""
    read, written = _read(said), _count(said, "output_tokens")
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": _count(said, "cache_read_input_tokens")},
    }


def _read(said: dict[str, Any]) -> int:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(_count(said, name) for name in names)


def _count(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    return value if is_count(value) else 0


def _joined(blocks: Iterable[dict[str, Any]], kind: str) -> str:
    return "".join(block[kind] for block in blocks if block["type"] == kind)


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}
