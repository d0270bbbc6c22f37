"""OpenAI's chat completion bodies, as Anthropic's Messages API wants them."""

from collections.abc import Iterable
from typing import Any

import orjson

from inference_worker.domain.failures import UpstreamRefused

# Anthropic requires a limit; OpenAI's clients often name none.
DEFAULT_MAX_TOKENS = 4096

# Same name, same meaning. Anthropic refuses fields it does not know, so nothing else goes along.
SHARED = ("model", "stream", "top_p", "top_k", "thinking")

# What this translation cannot keep. Better another candidate than an answer to another question.
IMPOSSIBLE = ("logprobs", "top_logprobs", "audio", "logit_bias", "prediction", "functions")

TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def to_messages_request(body: dict[str, Any]) -> dict[str, Any]:
    """Translate a body. Raises `UpstreamRefused`, open to fallback, for what Anthropic's API cannot do."""
    _refuse_impossible(body)
    request = {name: body[name] for name in SHARED if body.get(name) is not None}
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
    request |= _tools(body)
    request |= _output_format(body.get("response_format"))
    return request


def _refuse_impossible(body: dict[str, Any]) -> None:
    wanted = [name for name in IMPOSSIBLE if body.get(name)]
    if body.get("n") not in {None, 1}:
        wanted.append("n")
    if wanted:
        raise UpstreamRefused(f"this upstream cannot do: {', '.join(wanted)}", fallback=True)


def _messages(messages: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System blocks, and messages whose roles alternate."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in _objects(messages):
        role = message.get("role")
        if role in {"system", "developer"}:
            system += _blocks(message.get("content"))
            continue
        role, blocks = ("assistant", _assistant(message)) if role == "assistant" else ("user", _user(message))
        if turns and turns[-1]["role"] == role:
            # Anthropic wants all results of parallel tool calls in one message.
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _user(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"))
    if message.get("role") != "tool":
        return blocks
    return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": blocks}]


def _assistant(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"))
    for call in _objects(message.get("tool_calls")):
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id", ""),
                "name": function.get("name", ""),
                "input": _arguments(function.get("arguments")),
            }
        )
    return blocks


def _arguments(arguments: object) -> dict[str, Any]:
    try:
        parsed = orjson.loads(arguments) if isinstance(arguments, str) and arguments else {}
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise UpstreamRefused("a tool call's arguments are not a JSON object")
    return parsed


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        # Anthropic refuses empty text.
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
        raise UpstreamRefused(f"this upstream cannot read parts of type {kind}", fallback=True)
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _source(url: object) -> dict[str, Any]:
    if isinstance(url, str) and url.startswith("https://"):
        return {"type": "url", "url": url}
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise UpstreamRefused("an image or file must be an https or a base64 data URL")
    return {"type": "base64", "media_type": head[5:-7], "data": data}


def _tools(body: dict[str, Any]) -> dict[str, Any]:
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
        raise UpstreamRefused(f"this upstream cannot use tools of type {tool.get('type')}", fallback=True)
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


def _output_format(wanted: object) -> dict[str, Any]:
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return {}
    schema = wanted.get("json_schema")
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        raise UpstreamRefused(f"this upstream cannot answer as {wanted.get('type')}", fallback=True)
    return {"output_config": {"format": {"type": "json_schema", "schema": schema.get("schema") or {}}}}


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
