"""How settings nest: sections, mappings of sections by name, and sections of several kinds."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


def models_in(annotation: Any) -> list[Model]:
    """The sections that a value of this type may be: none, one, or the kinds of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return models_in(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [model for part in get_args(annotation) for model in models_in(part)]
    return []


def value_type(annotation: Any) -> Any:
    """The type of a mapping's values; None for what is no mapping."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def is_tag(field: FieldInfo) -> bool:
    """Whether a field only says which kind of section it stands in."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def follow(cls: Model, place: Sequence[int | str]) -> tuple[list[str], Any]:
    """Walk down to where pydantic found a fault; answer the names of its variable, and the type that belongs there.

    Pydantic's places also name the kind of a section, and numbers in lists; variables have neither.
    """
    names: list[str] = []
    annotation: Any = cls
    for part in place:
        models = models_in(annotation)
        chosen = [model for model in models if part in _titles(model)] if len(models) > 1 else []
        if chosen:
            annotation = chosen[0]
        elif isinstance(part, str):
            names.append(part)
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            annotation = fields[0].annotation if fields else value_type(annotation)
    return names, annotation


def required_below(names: list[str], annotation: Any) -> Iterator[list[str]]:
    """The places of all required values at and below a place."""
    models = models_in(annotation)
    if len(models) != 1:
        yield names
        return
    for name, field in models[0].model_fields.items():
        if field.is_required():
            yield from required_below([*names, name], field.annotation)


def _titles(model: Model) -> set[str]:
    """What pydantic may call a section among several kinds: its tag, or its class."""
    tags = {get_args(field.annotation)[0] for field in model.model_fields.values() if is_tag(field)}
    return {model.__name__, *tags}
