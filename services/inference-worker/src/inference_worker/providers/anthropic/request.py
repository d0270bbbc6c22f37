"""Translates OpenAI's chat completion requests into requests of Anthropic's Messages API."""

from collections.abc import Iterable
from typing import Any

import orjson

from inference_worker.providers.model import UpstreamRejected

# Anthropic requires a limit; OpenAI's clients often omit it.
DEFAULT_MAX_TOKENS = 4096

# Same name and meaning in both. Anthropic rejects fields it does not know, so no other is passed on.
SHARED_PARAMS = ("model", "stream", "top_p", "top_k", "thinking")

# What this translation cannot keep. The next candidate may support it; dropping it would change the request.
UNSUPPORTED_PARAMS = ("logprobs", "top_logprobs", "audio", "logit_bias", "prediction", "functions")

TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def to_messages_request(body: dict[str, Any]) -> dict[str, Any]:
    """Translate a body. Raises `UpstreamRejected`, with fallback, for what Anthropic's API does not support."""
    _check_supported(body)
    request = {name: body[name] for name in SHARED_PARAMS if body.get(name) is not None}
    request["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    system, messages = _messages(body.get("messages"))
    request["messages"] = messages
    if system:
        request["system"] = system
    if body.get("stop"):
        request["stop_sequences"] = [body["stop"]] if isinstance(body["stop"], str) else body["stop"]
    if body.get("temperature") is not None:
        # Anthropic's scale ends at 1, OpenAI's at 2.
        request["temperature"] = min(body["temperature"], 1)
    if body.get("user"):
        request["metadata"] = {"user_id": body["user"]}
    request |= _tools_and_choice(body)
    request |= _output_config(body.get("response_format"))
    return request


def _check_supported(body: dict[str, Any]) -> None:
    unsupported = [name for name in UNSUPPORTED_PARAMS if body.get(name)]
    if body.get("n") not in {None, 1}:
        unsupported.append("n")
    if unsupported:
        raise UpstreamRejected(f"this upstream does not support: {', '.join(unsupported)}", fallback=True)


def _messages(messages: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the system blocks, and messages whose roles alternate."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in _objects(messages):
        role = message.get("role")
        if role in {"system", "developer"}:
            system += _blocks(message.get("content"))
            continue
        if role == "assistant":
            blocks = _assistant_blocks(message)
        else:
            role, blocks = "user", _user_blocks(message)
        if turns and turns[-1]["role"] == role:
            # Anthropic requires all results of parallel tool calls in one message.
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _user_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"))
    if message.get("role") != "tool":
        return blocks
    return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": blocks}]


def _assistant_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"))
    for call in _objects(message.get("tool_calls")):
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id", ""),
                "name": function.get("name", ""),
                "input": _parse_arguments(function.get("arguments")),
            }
        )
    return blocks


def _parse_arguments(arguments: object) -> dict[str, Any]:
    try:
        parsed = orjson.loads(arguments) if isinstance(arguments, str) and arguments else {}
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise UpstreamRejected("a tool call's arguments are not a JSON object")
    return parsed


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        # Anthropic rejects empty text.
        return [{"type": "text", "text": content}] if content else []
    return [_block(part) for part in _objects(content)]


def _block(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in {"text", "refusal"}:
        block: dict[str, Any] = {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    elif kind == "image_url":
        image = part.get("image_url")
        block = {"type": "image", "source": _source(image.get("url") if isinstance(image, dict) else image)}
    elif kind == "file":
        file = part.get("file") or {}
        block = {"type": "document", "source": _source(file.get("file_data"))}
        if file.get("filename"):
            block["title"] = file["filename"]
    else:
        raise UpstreamRejected(f"this upstream does not support parts of type {kind}", fallback=True)
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _source(url: object) -> dict[str, Any]:
    if isinstance(url, str) and url.startswith("https://"):
        return {"type": "url", "url": url}
    prefix, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not prefix.startswith("data:") or not prefix.endswith(";base64"):
        raise UpstreamRejected("an image or file must be an https or a base64 data URL")
    return {"type": "base64", "media_type": prefix[5:-7], "data": data}


def _tools_and_choice(body: dict[str, Any]) -> dict[str, Any]:
    tools = [_tool(tool) for tool in _objects(body.get("tools"))]
    if not tools:
        return {}
    choice = _tool_choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise UpstreamRejected(f"this upstream does not support tools of type {tool.get('type')}", fallback=True)
    translated = {
        "name": function.get("name", ""),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description"):
        translated["description"] = function["description"]
    if "cache_control" in tool:
        translated["cache_control"] = tool["cache_control"]
    return translated


def _tool_choice(choice: object) -> dict[str, Any]:
    if isinstance(choice, str) and choice in TOOL_CHOICES:
        return {"type": TOOL_CHOICES[choice]}
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"].get("name", "")}
    return {}


def _output_config(response_format: object) -> dict[str, Any]:
    if not isinstance(response_format, dict) or response_format.get("type") == "text":
        return {}
    schema = response_format.get("json_schema")
    if response_format.get("type") != "json_schema" or not isinstance(schema, dict):
        raise UpstreamRejected(
            f"this upstream does not support the response format {response_format.get('type')}", fallback=True
        )
    return {"output_config": {"format": {"type": "json_schema", "schema": schema.get("schema") or {}}}}


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
