"""Until when somebody waits."""

from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import DeadlineExceeded

from orchestrator.domain.policy import Policy


class Deadline:
    """A point in time on the monotonic clock, handed from call to call as the time that remains."""

    __slots__ = ("_clock", "_ends_at")

    def __init__(self, time: timedelta, clock: Clock) -> None:
        self._clock = clock
        self._ends_at = clock.monotonic() + time.total_seconds()

    def remaining(self, at_most: timedelta | None = None) -> timedelta:
        """Return what is left, cut to `at_most`. Raises `DeadlineExceeded` when nothing is."""
        left = self.left()
        if not left:
            raise DeadlineExceeded("the request ran out of time")
        return left if at_most is None else min(left, at_most)

    def left(self) -> timedelta:
        """Return what is left, perhaps nothing."""
        return timedelta(seconds=max(0.0, self._ends_at - self._clock.monotonic()))


def deadline_of(time: timedelta | None, policy: Policy, clock: Clock) -> Deadline:
    """Return until when a request may take that brings `time`, or none."""
    if time is None or time <= timedelta(0):
        time = policy.default_deadline
    return Deadline(min(time, policy.longest_deadline), clock)
