"""Bounds on what is in flight at once: bytes, uploads, anything that is counted; in all, and for each key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from chassis.errors import ArgosyError, Kind

RETRY_AFTER: Final = timedelta(seconds=1)


class Overloaded(ArgosyError):
    """The service handles as much at once as it can hold; try again after `retry-after`."""

    kind, reason = Kind.UNAVAILABLE, "OVERLOADED"


class TooMuchInFlight(ArgosyError):
    """The caller has as much in flight as one may; wait for earlier requests, and try again after `retry-after`."""

    kind, reason = Kind.THROTTLED, "TOO_MUCH_IN_FLIGHT"


class InFlightLimit:
    """Counts what is in flight. `on_refused` gets "process" or "key", the limit that was reached."""

    def __init__(self, what: str, max_total: int, max_per_key: int, on_refused: Callable[[str], None]) -> None:
        self._what = what
        self._max_total = max_total
        self._max_per_key = max_per_key
        self._on_refused = on_refused
        self._by_key: Counter[str] = Counter()
        self.total = 0

    def reserve(self, key: str, amount: int) -> InFlight:
        """Count `amount` until it is released. Raises Overloaded, TooMuchInFlight."""
        reservation = InFlight(self, key)
        if amount:
            reservation.grow_to(amount)
        return reservation

    def take(self, key: str, amount: int) -> None:
        """Count `amount`, or none of it. Raises Overloaded, TooMuchInFlight."""
        of_key = self._by_key[key] + amount
        if of_key > self._max_per_key:
            self._on_refused("key")
            raise TooMuchInFlight(f"Too many {self._what} of yours are in flight; try again.", retry_after=RETRY_AFTER)
        if self.total + amount > self._max_total:
            self._on_refused("process")
            raise Overloaded(f"Too many {self._what} are in flight; try again.", retry_after=RETRY_AFTER)
        self._by_key[key] = of_key
        self.total += amount

    def give_back(self, key: str, amount: int) -> None:
        self.total -= amount
        self._by_key[key] -= amount
        if self._by_key[key] <= 0:
            del self._by_key[key]


class InFlight:
    """What one request has in flight; a context manager that releases it."""

    __slots__ = ("_amount", "_key", "_limit")

    def __init__(self, limit: InFlightLimit, key: str) -> None:
        self._limit = limit
        self._key = key
        self._amount = 0

    def grow_to(self, amount: int) -> None:
        """Count at least `amount` in all. Raises Overloaded, TooMuchInFlight."""
        if amount > self._amount:
            self._limit.take(self._key, amount - self._amount)
            self._amount = amount

    def release(self) -> None:
        """Give back everything; a second call does nothing."""
        if self._amount:
            amount, self._amount = self._amount, 0
            self._limit.give_back(self._key, amount)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.release()
