"""Attributes of a file in a vector store, and filters over them, within the limits of OpenAI's reference.

Checks raise ValueError with a sentence that names the part at fault, such as `filters[1].value`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

AttributeValue = str | int | float | bool
"""A whole number of 64 bits is an int and is kept exactly; any other number is a float."""
Attributes = Mapping[str, AttributeValue]

MAX_ATTRIBUTES: Final = 16
MAX_ATTRIBUTE_KEY_CHARACTERS: Final = 64
MAX_ATTRIBUTE_VALUE_CHARACTERS: Final = 512
MAX_FILTER_DEPTH: Final = 8
"""Groups inside of groups."""
MAX_FILTER_VALUES: Final = 1_000
"""Values that one filter compares with, in all its comparisons."""
_INT64 = range(-(2**63), 2**63)


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NIN = "nin"


OF_LISTS: Final = frozenset({Operator.IN, Operator.NIN})
OF_ORDER: Final = frozenset({Operator.GT, Operator.GTE, Operator.LT, Operator.LTE})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares the attribute `key`. Values of different types are never equal, and have no order.

    `ne` and `nin` are the opposites of `eq` and `in`, so they hold for files without the attribute.
    """

    key: str
    operator: Operator
    values: tuple[AttributeValue, ...]
    """One; for `in` and `nin` any number."""


@dataclass(frozen=True, slots=True)
class Group:
    """Holds when all of its filters hold, or any of them does."""

    needs_all: bool
    filters: tuple[Filter, ...]


Filter = Comparison | Group


def check_attributes(raw: object, name: str = "attributes") -> dict[str, AttributeValue]:
    """The attributes of a file. Raises ValueError."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - as all checks
    if len(raw) > MAX_ATTRIBUTES:
        raise ValueError(f"{name} may have at most {MAX_ATTRIBUTES} keys")
    return {_key(key, f"a key of {name}"): _value(value, f"{key!r} in {name}") for key, value in raw.items()}


def check_metadata(raw: object) -> dict[str, str]:
    """Metadata of an object: as attributes, but texts alone. Raises ValueError."""
    checked = check_attributes(raw, "metadata")
    texts = {key: value for key, value in checked.items() if isinstance(value, str)}
    if len(texts) < len(checked):
        raise ValueError("the values of metadata must be strings")
    return texts


def to_filter(raw: object, path: str = "filters") -> Filter:
    """A filter from OpenAI's JSON. Raises ValueError."""
    _check_size(raw, path)
    return check_filter(_to_filter(raw, path, 1), path)


def check_filter(checked: Filter, path: str = "filters") -> Filter:
    """The filter. Raises ValueError for one that is too large."""
    if _depth(checked) > MAX_FILTER_DEPTH:
        raise ValueError(f"{path} may have {MAX_FILTER_DEPTH} levels of groups")
    if _size(checked) > MAX_FILTER_VALUES:
        raise ValueError(f"{path} may have {MAX_FILTER_VALUES} values in all")
    return checked


def to_comparison(key: object, operator: Operator, values: Sequence[object], path: str = "filters") -> Comparison:
    """A checked comparison. Raises ValueError."""
    if operator not in OF_LISTS and len(values) != 1:
        raise ValueError(f"{path}.value must be one value")
    checked = tuple(_value(value, f"{path}.value") for value in values)
    if operator in OF_ORDER and isinstance(checked[0], bool):
        raise ValueError(f"{path}.value must be a number or a string: true and false have no order")
    return Comparison(_key(key, f"{path}.key"), operator, checked)


def to_group(needs_all: bool, filters: Sequence[Filter], path: str = "filters") -> Group:
    """A checked group. Raises ValueError."""
    if not filters:
        raise ValueError(f"{path}.filters must not be empty")
    return Group(needs_all, tuple(filters))


def _check_size(raw: object, path: str) -> None:
    """Refuse what is much too large before each part of it is checked, which takes seconds for ten megabytes."""
    waiting, found = [raw], 0
    while waiting:
        item = waiting.pop()
        if not isinstance(item, Mapping):
            continue
        parts, value = item.get("filters"), item.get("value")
        found += sum(len(each) for each in (parts, value) if isinstance(each, list))
        if found > 2 * MAX_FILTER_VALUES:
            raise ValueError(f"{path} may have {MAX_FILTER_VALUES} values in all")
        waiting += parts if isinstance(parts, list) else ()


def _to_filter(raw: object, path: str, depth: int) -> Filter:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} must be an object")  # noqa: TRY004 - as all checks
    if depth > MAX_FILTER_DEPTH + 1:
        raise ValueError(f"{path} is too deep: a filter may have {MAX_FILTER_DEPTH} levels of groups")
    kind = raw.get("type")
    if kind in ("and", "or"):
        _check_names(raw, {"type", "filters"}, path)
        parts = raw.get("filters")
        if not isinstance(parts, list) or len(parts) > MAX_FILTER_VALUES:
            raise ValueError(f"{path}.filters must be a list of at most {MAX_FILTER_VALUES} filters")
        filters = [_to_filter(part, f"{path}.filters[{place}]", depth + 1) for place, part in enumerate(parts)]
        return to_group(kind == "and", filters, path)
    if not isinstance(kind, str) or kind not in tuple(Operator):
        raise ValueError(f"{path}.type must be one of and, or, {', '.join(Operator)}")
    _check_names(raw, {"type", "key", "value"}, path)
    operator, value = Operator(kind), raw.get("value")
    if (operator in OF_LISTS) is not isinstance(value, list):
        wanted = "a list" if operator in OF_LISTS else "a string, a number, true or false"
        raise ValueError(f"{path}.value must be {wanted} for {operator}")
    return to_comparison(raw.get("key"), operator, value if isinstance(value, list) else [value], path)


def _check_names(raw: Mapping[object, object], known: set[str], path: str) -> None:
    # A condition that is misspelt and ignored would let files through.
    for name in raw.keys() - known:
        raise ValueError(f"{path}.{name} is not known: {', '.join(sorted(known))}")


def _key(key: object, what: str) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_ATTRIBUTE_KEY_CHARACTERS or not _is_storable(key):
        raise ValueError(
            f"{what} must be a string of 1 to {MAX_ATTRIBUTE_KEY_CHARACTERS} characters, none of them zero"
        )
    return key


def _value(value: object, what: str) -> AttributeValue:
    if isinstance(value, str):
        if len(value) > MAX_ATTRIBUTE_VALUE_CHARACTERS or not _is_storable(value):
            raise ValueError(f"{what} must have at most {MAX_ATTRIBUTE_VALUE_CHARACTERS} characters, none zero")
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in _INT64:
        return value
    if isinstance(value, int | float):
        number = _to_float(value)
        if math.isfinite(number):
            return number
    raise ValueError(f"{what} must be a string, a finite number, true or false")


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_storable(text: str) -> bool:
    """Postgres stores neither the zero character nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _depth(given: Filter) -> int:
    return 1 + max(map(_depth, given.filters)) if isinstance(given, Group) else 0


def _size(given: Filter) -> int:
    """Values and comparisons, because a comparison with an empty list is work as well."""
    return sum(map(_size, given.filters)) if isinstance(given, Group) else max(len(given.values), 1)
