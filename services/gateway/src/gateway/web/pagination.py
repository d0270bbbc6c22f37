"""Lists are returned page by page, newest first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` records that are older than the record with the id `after`."""

    limit: int = 20
    after: str = ""


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list, newest first, and whether older records exist."""

    items: Sequence[T]
    has_more: bool = False


def rows_to_page(rows: Sequence[R], request: PageRequest, row_to_item: Callable[[R], T]) -> Page[T]:
    """Make a page of rows that were selected with a limit of one more than the page has."""
    return Page([row_to_item(row) for row in rows[: request.limit]], has_more=len(rows) > request.limit)
