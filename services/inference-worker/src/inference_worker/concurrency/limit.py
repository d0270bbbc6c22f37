"""How many plans and embeddings run at once."""

from collections.abc import Callable

from chassis.errors import Unavailable


class ConcurrencyLimit:
    """Counts what runs: `with limit: …` raises `Unavailable` when `max_in_flight` calls run already."""

    __slots__ = ("_max_in_flight", "_on_rejected", "in_flight")

    def __init__(self, max_in_flight: int, on_rejected: Callable[[], None]) -> None:
        self._max_in_flight = max_in_flight
        self._on_rejected = on_rejected
        self.in_flight = 0

    def __enter__(self) -> None:
        if self.in_flight >= self._max_in_flight:
            self._on_rejected()
            raise Unavailable("the worker is at capacity")
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
