"""Tools of a request, and which of them the model may or must call."""

from typing import Any

from inference_worker.providers.anthropic.messages import objects
from inference_worker.providers.model import UpstreamRejected

_COMBINATORS = ("anyOf", "oneOf", "allOf")
TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def add_tools(request: dict[str, Any], body: dict[str, Any], warnings: list[str]) -> None:
    """Add tools and choice.

    Raises `UpstreamRejected`, with fallback, for tools that are no functions, and different ones of one name.
    """
    tools = _unique([_tool(tool, warnings) for tool in objects(body.get("tools"))])
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


def _unique(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out repeated tools: Anthropic refuses a name that stands twice."""
    by_name: dict[str, dict[str, Any]] = {}
    for tool in tools:
        if by_name.setdefault(tool["name"], tool) != tool:
            raise UpstreamRejected(
                f"this upstream does not take two tools of the name {tool['name']}", param="tools", fallback=True
            )
    return list(by_name.values())


def _tool(tool: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise UpstreamRejected(f"this upstream does not support tools of type {tool.get('type')}", fallback=True)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    name = function.get("name", "")
    translated = {"name": name, "input_schema": to_input_schema(schema, name, warnings)}
    if function.get("description"):
        translated["description"] = function["description"]
    if "cache_control" in tool:
        translated["cache_control"] = tool["cache_control"]
    return translated


def to_input_schema(schema: dict[str, Any], name: str, warnings: list[str]) -> dict[str, Any]:
    """Return the schema of an object, without alternatives at its top level: Anthropic refuses both there.

    What an alternative adds is described all the same; which of them go together is lost, with a warning.
    """
    kept = {key: value for key, value in schema.items() if key not in _COMBINATORS}
    left_out = [key for key in _COMBINATORS if key in schema]
    for key in left_out:
        for branch in objects(schema[key]):
            if isinstance(branch.get("properties"), dict):
                kept["properties"] = branch["properties"] | (kept.get("properties") or {})
            if key == "allOf" and isinstance(branch.get("required"), list):
                kept["required"] = list(dict.fromkeys([*(kept.get("required") or []), *branch["required"]]))
    if left_out:
        what = f"{' and '.join(left_out)} at the top of a tool's schema"
        warnings.append(f"This upstream does not support {what}; it was dropped for {name}.")
    if kept.get("type") != "object":
        kept = {**kept, "type": "object"}
    return kept


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
