"""Filters over attributes as they are defined, to compare the real index with."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from values.attributes import Attributes, AttributeValue, Comparison, Filter, Group, Operator

_ORDER: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
}


def fits(given: Filter | None, attributes: Attributes) -> bool:
    """Whether a search with this filter finds a file with these attributes."""
    if given is None:
        return True
    if isinstance(given, Group):
        parts = [fits(part, attributes) for part in given.filters]
        return all(parts) if given.needs_all else any(parts)
    return _compare(given, attributes.get(given.key))


def _compare(given: Comparison, value: AttributeValue | None) -> bool:
    if given.operator in _ORDER:
        return type_of(value) == type_of(given.values[0]) and _ORDER[given.operator](value, given.values[0])
    equal = any(type_of(value) == type_of(wanted) and value == wanted for wanted in given.values)
    return equal is (given.operator in (Operator.EQ, Operator.IN))


def type_of(value: AttributeValue | None) -> str:
    """JSON's type: true is no number, and whole numbers and others are of one type."""
    return "number" if type(value) in (int, float) else type(value).__name__
