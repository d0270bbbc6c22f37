"""Nesting of settings: sections, mappings of sections by name, and sections of several kinds (tagged unions)."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


def models_in(annotation: Any) -> list[Model]:
    """Return the sections that a type consists of: none, one, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_in(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [model for part in get_args(annotation) for model in models_in(part)]
    return []


def value_type(annotation: Any) -> Any:
    """Return the type of a mapping's values; None for any other type."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def is_tag(field: FieldInfo) -> bool:
    """Whether a field is the tag of a union."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def follow(cls: Model, path: Sequence[int | str]) -> tuple[list[str], Any]:
    """Follow pydantic's location of an error; return the names of its variable, and its type.

    Pydantic's locations also contain the tags of unions and list indexes, which variables do not have.
    """
    names: list[str] = []
    annotation: Any = cls
    for part in path:
        models = models_in(annotation)
        chosen = [model for model in models if part in _labels(model)] if len(models) > 1 else []
        if chosen:
            annotation = chosen[0]
        elif isinstance(part, str):
            names.append(part)
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            annotation = fields[0].annotation if fields else value_type(annotation)
    return names, annotation


def required_below(names: list[str], annotation: Any) -> Iterator[list[str]]:
    """Yield the paths of all required values at and below a path."""
    models = models_in(annotation)
    if len(models) != 1:
        yield names
        return
    for name, field in models[0].model_fields.items():
        if field.is_required():
            yield from required_below([*names, name], field.annotation)


def _labels(model: Model) -> set[str]:
    """Return the names that pydantic uses for a member of a union: its tag, or its class."""
    tags = {get_args(field.annotation)[0] for field in model.model_fields.values() if is_tag(field)}
    return {model.__name__, *tags}
