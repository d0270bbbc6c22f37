"""What the OpenAPI document says of a chat completion's body beyond the types of its struct."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.inference.limits import ROLE_WITHOUT_CONTENT, InferenceLimits

TEXT_PART: Final = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
OTHER_PART: Final = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string", "pattern": "^(?!text$)"}},
}
CONTENT: Final = (
    {"type": "string"},
    {"type": "array", "minItems": 1, "items": {"anyOf": [TEXT_PART, OTHER_PART]}},
)
ROLES_WITH_CONTENT: Final = ("developer", "system", "user", "tool", "function")
MESSAGE: Final = {
    "anyOf": [
        {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"enum": [*ROLES_WITH_CONTENT]}, "content": {"anyOf": [*CONTENT]}},
        },
        {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"const": ROLE_WITHOUT_CONTENT},
                "content": {"anyOf": [*CONTENT, {"type": "array", "maxItems": 0}, {"type": "null"}]},
            },
        },
    ]
}


def body_properties(limits: InferenceLimits) -> Mapping[str, Mapping[str, Any]]:
    """Schemas of the fields that this installation limits."""
    output = _up_to(limits.max_output_tokens)
    return {
        "messages": {"type": "array", "minItems": 1, "maxItems": limits.max_messages, "items": MESSAGE},
        "n": _up_to(limits.max_choices),
        "max_tokens": output,
        "max_completion_tokens": output,
    }


def _up_to(maximum: int) -> Mapping[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": maximum}, {"type": "null"}]}
