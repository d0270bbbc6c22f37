"""Timeouts and sizes of one deployment, and the deadline of one request."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from chassis.clock import Clock
from chassis.errors import DeadlineExceeded

WORKER_GRACE = timedelta(seconds=5)
"""A worker ends a plan at its deadline by itself. Its call lasts this much longer, so that Finished arrives."""


class DisconnectPolicy(StrEnum):
    """What happens to a provider call whose client leaves."""

    DRAIN = "drain"
    """Read it to its end, and bill it."""
    ABORT = "abort"
    """Stop it, and bill what was written; what cannot be counted is exposure that the client caused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts and sizes, the same for all requests. The settings describe each of them."""

    default_deadline: timedelta
    max_deadline: timedelta
    reservation_lease: timedelta
    first_byte_timeout: timedelta
    non_streamed_timeout: timedelta
    idle_timeout: timedelta
    reserve_timeout: timedelta
    retrieval_timeout: timedelta
    abort_timeout: timedelta
    default_passages: int
    max_context_bytes: int
    stream_buffer_bytes: int
    max_plan_bytes: int
    max_embedding_bytes: int
    streamed_disconnect: DisconnectPolicy = DisconnectPolicy.ABORT
    non_streamed_disconnect: DisconnectPolicy = DisconnectPolicy.DRAIN

    def lease(self, remaining: timedelta) -> timedelta:
        """Return how long the money of a request is held that has `remaining` until its deadline.

        A running request must not outlive its lease: it may run until its deadline, and then be aborted.
        """
        return remaining + max(self.abort_timeout, WORKER_GRACE) + self.reservation_lease


class Deadline:
    """A point on the monotonic clock. Each call gets the time that remains until it."""

    __slots__ = ("_at", "_clock")

    def __init__(self, timeout: timedelta, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.monotonic() + timeout.total_seconds()

    def remaining(self, at_most: timedelta | None = None) -> timedelta:
        """Return the time that remains, cut to `at_most`. Raises `DeadlineExceeded` when none does."""
        left = self.left()
        if not left:
            raise DeadlineExceeded("the request ran out of time")
        return left if at_most is None else min(left, at_most)

    def left(self) -> timedelta:
        """Return the time that remains, or zero."""
        return timedelta(seconds=max(0.0, self._at - self._clock.monotonic()))


def deadline_of(timeout: timedelta | None, limits: Limits, clock: Clock) -> Deadline:
    """Return the deadline of a request that asks for `timeout`, or for none."""
    if timeout is None or timeout <= timedelta(0):
        timeout = limits.default_deadline
    return Deadline(min(timeout, limits.max_deadline), clock)


def shorter_timeout(requested: timedelta | None, seconds_left: float | None) -> timedelta | None:
    """Return the shorter of the timeout in a request and the time that its call has left; None when neither is set."""
    left = None if seconds_left is None else timedelta(seconds=seconds_left)
    if requested is None or left is None:
        return left if requested is None else requested
    return min(requested, left)
