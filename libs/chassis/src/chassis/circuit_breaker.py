"""Circuit breaker: after some failures in a row, calls to a peer fail at once, except for a trial each second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from chassis.errors import Unavailable
from chassis.telemetry import logger

log = logger("chassis.circuit_breaker")


class CircuitBreaker:
    """Closed: calls pass. Open, after `max_failures` in a row: none pass. After `open_seconds`: one trial decides."""

    def __init__(
        self,
        name: str,
        max_failures: int = 5,
        open_seconds: float = 1.0,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._max_failures = max_failures
        self._open_seconds = open_seconds
        self._now = now
        self._failures = 0
        self._closed = True
        self._next_trial = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are refused."""
        return not self._closed

    def before_call(self) -> None:
        """Let a call pass, or raise `Unavailable`."""
        if self._closed:
            return
        now = self._now()
        if now < self._next_trial:
            raise Unavailable(f"{self._name} does not answer")
        # This call is the trial. Should its outcome never be reported, the next trial comes after the same time.
        self._next_trial = now + self._open_seconds

    def record_success(self) -> None:
        self._failures = 0
        if not self._closed:
            self._closed = True
            log.info("circuit_closed", peer=self._name)

    def record_failure(self) -> None:
        self._failures += 1
        if self._closed and self._failures >= self._max_failures:
            self._closed = False
            log.warning("circuit_opened", peer=self._name)
        if not self._closed:
            self._next_trial = self._now() + self._open_seconds
