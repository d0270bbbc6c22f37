"""When a failed delivery is tried again, and when its endpoint is given up."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

MAX_RETRY_AFTER = timedelta(days=1)


def next_attempt_at(
    schedule: Sequence[timedelta],
    failures: int,
    scheduled_at: datetime,
    now: datetime,
    *,
    uniform: Callable[[float, float], float],
    retry_after: timedelta | None = None,
) -> datetime | None:
    """Return the time of the next attempt after `failures` failed ones; None when the schedule is exhausted.

    Attempt n + 1 is at a random point of the n-th step: between the sums of the first n - 1 and of the first n steps,
    from `scheduled_at`. That is full jitter, and the last attempt still comes in the last step, days after the first.
    After a delay (an outage here) the next attempt is at a random point of the step from now on, so that a backlog
    does not hit endpoints at once. An endpoint's Retry-After puts it off, for a day at most.
    """
    if failures > len(schedule):
        return None
    step = schedule[failures - 1]
    begin = scheduled_at + sum(schedule[: failures - 1], timedelta(0))
    due = begin + step * uniform(0.0, 1.0)
    if due <= now:
        due = now + step * uniform(0.0, 1.0)
    if retry_after is not None:
        due = max(due, now + min(retry_after, MAX_RETRY_AFTER))
    return due


def should_disable(
    failing_since: datetime | None, failures: int, now: datetime, *, disable_after: timedelta, min_failures: int
) -> bool:
    """Whether an endpoint has only failed for long enough.

    Two failures, days apart, with nothing to deliver between them say little: there must be `min_failures` as well.
    """
    return failing_since is not None and now - failing_since >= disable_after and failures >= min_failures
