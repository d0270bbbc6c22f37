"""The responses of simulated providers, in OpenAI's format and in Anthropic's."""

import base64
import json
import secrets
import struct
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
INTERRUPTED = {"cut", "no-end", "silent", "error-event", "garbage-middle"}


@dataclass(frozen=True)
class Mode:
    """A behaviour and its options."""

    name: str
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "Mode":
        name, _, options = text.partition("?")
        return cls(name, dict(parse_qsl(options)))

    def number(self, option: str, default: float) -> float:
        return float(self.options.get(option, default))


class OpenaiDialect:
    def error(self, status: int) -> dict[str, Any]:
        kind = ERROR_TYPES.get(status, "server_error")
        return {"error": {"message": f"simulated {status}", "type": kind, "code": str(status), "param": None}}

    def completion(self, mode: Mode, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(_tokens(mode))}
        if mode.name == "tools":
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", **_call("weather", '{"city": "Paris"}')}],
            }
        if mode.name == "huge":
            message["content"] = "x" * int(mode.number("bytes", 64_000_000))
        if mode.name == "unique":
            message["content"] = secrets.token_hex(16)
        reason = "tool_calls" if mode.name == "tools" else "stop"
        response = _envelope(body, "chat.completion") | {
            "choices": [{"index": 0, "message": message, "finish_reason": reason}]
        }
        return response if mode.name == "no-usage" else response | {"usage": _usage(mode, body)}

    def events(self, mode: Mode, body: dict[str, Any]) -> list[bytes]:
        """Return the events of a stream; only the first of them for modes that interrupt it."""
        envelope = _envelope(body, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            return envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

        if mode.name == "error-first":
            return [_event(self.error(500))]
        chunks = [chunk({"role": "assistant", "content": ""})]
        if mode.name == "tools":
            chunks += [chunk({"tool_calls": [{"index": 0, "id": "call_1", **_call("weather", "")}]})]
            chunks += [
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
                for piece in ('{"city":', ' "Paris"}')
            ]
        else:
            chunks += [chunk({"content": token}) for token in _tokens(mode)]
        events = [_event(piece) for piece in chunks]
        if mode.name in INTERRUPTED:
            return [*events, *_interruption(mode, self.error(500))]
        events.append(_event(chunk({}, "tool_calls" if mode.name == "tools" else "stop")))
        include_usage = (body.get("stream_options") or {}).get("include_usage")
        if include_usage and mode.name != "no-usage":
            events.append(_event(envelope | {"choices": [], "usage": _usage(mode, body)}))
        return events if mode.name == "no-done" else [*events, b"data: [DONE]\n\n"]


class AnthropicDialect(OpenaiDialect):
    def error(self, status: int) -> dict[str, Any]:
        return {
            "type": "error",
            "error": {"type": ERROR_TYPES.get(status, "api_error"), "message": f"simulated {status}"},
        }

    def completion(self, mode: Mode, body: dict[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = {"type": "text", "text": "".join(_tokens(mode))}
        if mode.name == "tools":
            content = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
        if mode.name == "huge":
            content["text"] = "x" * int(mode.number("bytes", 64_000_000))
        reason = "tool_use" if mode.name == "tools" else "end_turn"
        usage = {} if mode.name == "no-usage" else _messages_usage(_usage(mode, body))
        return _message(body) | {"content": [content], "stop_reason": reason, "usage": usage}

    def events(self, mode: Mode, body: dict[str, Any]) -> list[bytes]:
        """Return the events of a stream; only the first of them for modes that interrupt it."""
        if mode.name == "error-first":
            return [_event(self.error(529), "error")]
        usage = {} if mode.name == "no-usage" else _messages_usage(_usage(mode, body))
        start = _message(body) | {
            "content": [],
            "stop_reason": None,
            "usage": usage | ({"output_tokens": 1} if usage else {}),
        }
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": token} for token in _tokens(mode)]
        if mode.name == "tools":
            block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"city":', ' "Paris"}')]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "ping"},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        ]
        if mode.name in INTERRUPTED:
            return [*(_event(event, event["type"]) for event in events), *_interruption(mode, self.error(529))]
        reason = "tool_use" if mode.name == "tools" else "end_turn"
        final_usage = {"output_tokens": usage["output_tokens"]} if usage else {}
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": final_usage},
            {"type": "message_stop"},
        ]
        return [
            _event(event, event["type"])
            for event in events
            if mode.name != "no-done" or event["type"] != "message_stop"
        ]


def _interruption(mode: Mode, error: dict[str, Any]) -> list[bytes]:
    return {"error-event": [_event(error, "error")], "garbage-middle": [b"data: <oops>\n\n"]}.get(mode.name, [])


def _event(data: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _tokens(mode: Mode) -> list[str]:
    default = 3 if mode.name in INTERRUPTED else 20 if mode.name == "paced" else 8
    return [f"word{number} " for number in range(int(mode.number("chunks", default)))]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content or ())


def _usage(mode: Mode, body: dict[str, Any]) -> dict[str, int]:
    input_tokens = sum(len(_text(message.get("content")).split()) for message in body.get("messages", ()))
    output_tokens = len(_tokens(mode))
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _messages_usage(usage: dict[str, int]) -> dict[str, int]:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def _call(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-simulated", "object": kind, "created": int(time.time()), "model": body.get("model")}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_simulated",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "stop_sequence": None,
    }


def embeddings(mode: Mode, body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    # An array of numbers is one input.
    texts = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    size = body.get("dimensions") or 8
    data = []
    for index, text in enumerate(texts):
        numbers = [len(text) / (1 + place) for place in range(size)]
        packed = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
        as_base64 = body.get("encoding_format") == "base64" and "floats" not in mode.name
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else numbers})
    response = {"object": "list", "model": body.get("model"), "data": data[1:] if mode.name == "too-few" else data}
    tokens = sum(len(text.split() if isinstance(text, str) else text) for text in texts)
    return (
        response if mode.name == "no-usage" else response | {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    )
