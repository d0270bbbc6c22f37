"""Small readers of JSON whose types cannot be trusted."""

from collections.abc import Mapping
from typing import Any

MAX_PARAM_CHARACTERS = 200


def as_object(value: object) -> dict[str, Any]:
    """Return an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str:
    """Return a text, or an empty one."""
    return value if isinstance(value, str) else ""


def as_param(value: object) -> str | None:
    """Return the name of a parameter."""
    return value[:MAX_PARAM_CHARACTERS] if isinstance(value, str) and value else None


def as_status(value: object) -> int | None:
    """Return an error status that is written as a number or as its digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600 else None


def codes_in(fields: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return the texts under `names` that are codes, not statuses."""
    found = (as_text(fields.get(name)) for name in names)
    return tuple(text.strip().lower() for text in found if text and not text.isdigit())


def first_text(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first text under `names`."""
    return next((text for name in names if (text := as_text(fields.get(name)))), "")
