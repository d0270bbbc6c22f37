"""Tools of a request, and which of them the model may or must call."""

from typing import Any

from inference_worker.providers.anthropic.messages import objects
from inference_worker.providers.model import UpstreamRejected

TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def add_tools(request: dict[str, Any], body: dict[str, Any]) -> None:
    """Add tools and choice. Raises `UpstreamRejected`, with fallback, for tools that are no functions."""
    tools = [_tool(tool) for tool in objects(body.get("tools"))]
    choice, allowed = _tool_choice(body.get("tool_choice"))
    if allowed is not None:
        tools = [tool for tool in tools if tool["name"] in allowed]
    if not tools:
        tools = _called_tools(request["messages"])
        choice = {"type": "none"} if tools else {}
    if not tools:
        return
    request["tools"] = tools
    if body.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    if choice:
        request["tool_choice"] = choice


def _called_tools(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tools that were called before: Anthropic wants them declared, also when none may be called."""
    blocks = (block for turn in turns for block in turn["content"])
    names = {block["name"]: None for block in blocks if block["type"] == "tool_use"}
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise UpstreamRejected(f"this upstream does not support tools of type {tool.get('type')}", fallback=True)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    translated = {
        "name": function.get("name", ""),
        "input_schema": schema if schema.get("type") else {"type": "object", **schema},
    }
    if function.get("description"):
        translated["description"] = function["description"]
    if "cache_control" in tool:
        translated["cache_control"] = tool["cache_control"]
    return translated


def _tool_choice(choice: object) -> tuple[dict[str, Any], frozenset[str] | None]:
    """Return the choice, and the names of the only tools that are allowed; None for all."""
    if isinstance(choice, str) and choice in TOOL_CHOICES:
        return {"type": TOOL_CHOICES[choice]}, None
    if not isinstance(choice, dict):
        return {}, None
    if isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"].get("name", "")}, None
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        functions = (tool.get("function") or tool for tool in objects(allowed.get("tools")))
        mode = TOOL_CHOICES.get(str(allowed.get("mode")), "auto")
        return {"type": mode}, frozenset(str(function.get("name")) for function in functions)
    return {}, None
