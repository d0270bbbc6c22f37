"""Schemas and names of tools that OpenAI takes and Anthropic refuses."""

from typing import Any

import pytest
from inference_worker.providers.anthropic.tools import add_tools
from inference_worker.providers.model import UpstreamRejected

TEXT = {"type": "string"}


def a_tool(parameters: dict[str, Any] | None = None, name: str = "f", description: str = "") -> dict[str, Any]:
    function = {"name": name, "parameters": parameters, "description": description}
    return {"type": "function", "function": function}


def translated(*tools: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    request: dict[str, Any] = {"messages": []}
    warnings: list[str] = []
    add_tools(request, {"tools": list(tools)}, warnings)
    return request["tools"], warnings


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_alternatives_of_required_fields_are_dropped_with_a_warning(key: str):
    properties = {"title": TEXT, "text": TEXT}
    schema = {"type": "object", "properties": properties, "required": ["title"], key: [{"required": ["text"]}]}

    (tool,), warnings = translated(a_tool(schema))

    assert tool["input_schema"] == {"type": "object", "properties": properties, "required": ["title"]}
    assert [key in warning and "for f" in warning for warning in warnings] == [True]


def test_what_alternatives_describe_is_kept():
    branches = [
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
        {"type": "object", "properties": {"b": TEXT}},
    ]

    (tool,), _ = translated(a_tool({"oneOf": branches, "description": "x"}))

    assert tool["input_schema"] == {"type": "object", "description": "x", "properties": {"a": TEXT, "b": TEXT}}


def test_what_all_parts_require_is_required():
    parts = [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b", "a"]}]

    (tool,), warnings = translated(a_tool({"type": "object", "allOf": parts}))

    assert tool["input_schema"] == {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]}
    assert len(warnings) == 1


@pytest.mark.parametrize("schema", [{"type": ["object", "null"]}, {"type": None}, {}, None, {"type": "string"}])
def test_a_schema_is_of_an_object(schema: dict[str, Any] | None):
    (tool,), warnings = translated(a_tool(schema))

    assert tool["input_schema"]["type"] == "object"
    assert not warnings


def test_alternatives_below_the_top_stay():
    schema = {"type": "object", "properties": {"a": {"anyOf": [TEXT, {"type": "null"}]}}}

    (tool,), warnings = translated(a_tool(schema))

    assert (tool["input_schema"], warnings) == (schema, [])


def test_a_tool_that_is_repeated_stands_once():
    tools, _ = translated(a_tool(name="f"), a_tool(name="g"), a_tool(name="f"))

    assert [tool["name"] for tool in tools] == ["f", "g"]


def test_different_tools_of_one_name_go_to_the_next_candidate():
    with pytest.raises(UpstreamRejected, match="two tools of the name f") as caught:
        translated(a_tool(description="one"), a_tool(description="other"))

    assert (caught.value.fallback, caught.value.param) == (True, "tools")
