"""Pages of a list, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list; `has_more` when other items follow them."""

    items: tuple[T, ...]
    has_more: bool


def to_page(items: Sequence[T], limit: int) -> Page[T]:
    """A page of at most `limit` items. Query for `limit` + 1 of them, so that `has_more` is known."""
    return Page(tuple(items[:limit]), len(items) > limit)


def page_size(requested: int, *, default: int, maximum: int) -> int:
    """The number of items to list; 0 means `default`. Raises InvalidRequest outside of 1 to `maximum`."""
    if requested == 0:
        return default
    if not 1 <= requested <= maximum:
        raise InvalidRequest(f"limit must be between 1 and {maximum}, not {requested}", param="limit")
    return requested
