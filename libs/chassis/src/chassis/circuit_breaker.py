"""A breaker: after some failures in a row nobody waits for a peer any more, but for one who tries each second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from chassis.errors import Unavailable
from chassis.telemetry import logger

log = logger("chassis.redis")


class Breaker:
    """Closed: all pass. Open, after `failures` in a row: none pass. After `rest_seconds`: one passes and decides."""

    def __init__(
        self,
        name: str,
        failures: int = 5,
        rest_seconds: float = 1.0,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._rest_seconds = rest_seconds
        self._now = now
        self._failures = 0
        self._closed = True
        self._next_trial = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are refused."""
        return not self._closed

    def admit(self) -> None:
        """Let a call pass, or raise `Unavailable` at once."""
        if self._closed:
            return
        now = self._now()
        if now < self._next_trial:
            raise Unavailable(f"{self._name} does not answer")
        # This one is the trial. If nothing is heard of it, the next comes after another rest.
        self._next_trial = now + self._rest_seconds

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0
        if not self._closed:
            self._closed = True
            log.info("breaker_closed", peer=self._name)

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        if self._closed and self._failures >= self._limit:
            self._closed = False
            log.warning("breaker_opened", peer=self._name)
        if not self._closed:
            self._next_trial = self._now() + self._rest_seconds
