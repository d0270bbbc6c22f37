"""The reference table of a service's settings, made from their definition."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from chassis.settings.environment import ServiceSettings, variable
from chassis.settings.nesting import Model, is_tag, models_in, value_type

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
    """List the settings of a service in the order of definition. Raises `TypeError` for one without a description."""
    return list(_rows(cls, [cls], ()))


def table(cls: type[ServiceSettings]) -> str:
    """Render the settings as a Markdown table."""
    return HEADER + "".join(
        f"| `{row.variable}` | {_cell(row.type)} | {_default_cell(row.default)} | {_cell(row.description)} |\n"
        for row in rows(cls)
    )


def _rows(cls: type[ServiceSettings], models: Sequence[Model], path: tuple[str, ...]) -> Iterator[Row]:
    """Yield a row per variable. In a section of several kinds, the row names the kinds that have the variable."""
    for name in dict.fromkeys(name for model in models for name in model.model_fields):
        owners = [model for model in models if name in model.model_fields]
        field = owners[0].model_fields[name]
        if all(is_tag(model.model_fields[name]) for model in owners):
            kinds = [str(get_args(model.model_fields[name].annotation)[0]) for model in owners]
            yield Row(variable(cls, *path, name), " | ".join(f"`{kind}`" for kind in kinds), None, "Which kind it is.")
            continue
        if not field.description:
            raise TypeError(f"{owners[0].__name__}.{name} has no description")
        nested, named = models_in(field.annotation), models_in(value_type(field.annotation))
        if nested or named:
            yield from _rows(cls, nested or named, (*path, name, *(() if nested else ("<name>",))))
        else:
            default = None if field.is_required() else _default(field)
            of = "" if len(owners) == len(models) else f" ({', '.join(_kind(model) for model in owners)})"
            yield Row(variable(cls, *path, name), _type(field.annotation), default, field.description + of)


def _kind(model: Model) -> str:
    tags = [get_args(field.annotation)[0] for field in model.model_fields.values() if is_tag(field)]
    return f"`{tags[0]}`" if tags else model.__name__


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
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
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
