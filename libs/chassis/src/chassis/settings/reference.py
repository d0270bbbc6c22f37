"""The reference page of a service's settings, made from their definition."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from chassis.settings.environment import ServiceSettings, section_of, variable

HEADER = "| Variable | Type | Default | Meaning |\n|---|---|---|---|\n"
TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    timedelta: "seconds",
    SecretStr: "secret",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting; `default` is None when it is required."""

    variable: str
    type: str
    default: str | None
    description: str


def rows(cls: type[ServiceSettings]) -> list[Row]:
    """Every setting of a service, in the order of their definition. Raises TypeError for one without a description."""
    return list(_rows(cls, cls, ()))


def table(cls: type[ServiceSettings]) -> str:
    """The same as a Markdown table."""
    return HEADER + "".join(
        f"| `{row.variable}` | {_cell(row.type)} | {_default_cell(row.default)} | {_cell(row.description)} |\n"
        for row in rows(cls)
    )


def _rows(cls: type[ServiceSettings], model: type[BaseModel], place: tuple[str, ...]) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        if not field.description:
            raise TypeError(f"{model.__name__}.{name} has no description")
        nested = section_of(field)
        named = _named_sections(field)
        if nested is not None:
            yield from _rows(cls, nested, (*place, name))
        elif named is not None:
            yield from _rows(cls, named, (*place, name, "<name>"))
        else:
            default = None if field.is_required() else _default(field)
            yield Row(variable(cls, *place, name), _type(field.annotation), default, field.description)


def _named_sections(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a mapping's values: `dict[str, Upstream]`."""
    if get_origin(field.annotation) is not dict:
        return None
    value = get_args(field.annotation)[1]
    return value if isinstance(value, type) and issubclass(value, BaseModel) else None


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _default_cell(default: str | None) -> str:
    if default is None:
        return "required"
    return f"`{default}`" if default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(annotation: Any) -> str:
    if get_origin(annotation) in {Union, types.UnionType}:
        return ", or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return " | ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in {tuple, list, frozenset, set}:
        return f"list: {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"mapping: {_type(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "JSON object"
    return TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())
