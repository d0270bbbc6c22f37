"""Pages of a list, newest first."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page, and whether more follow it."""

    items: tuple[T, ...]
    has_more: bool


def page_size(asked: int, *, default: int, most: int) -> int:
    """How many items to list when `asked` says so; 0 means `default`.

    Raises InvalidRequest outside of 1 to `most`.
    """
    if asked == 0:
        return default
    if not 1 <= asked <= most:
        raise InvalidRequest(f"limit must be between 1 and {most}, not {asked}", param="limit")
    return asked
