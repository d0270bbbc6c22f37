"""The schedule of attempts, and when an endpoint is given up."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from orchestrator.webhooks.retry import next_attempt_at, should_disable
from orchestrator.webhooks.settings import WEBHOOK_SCHEDULE

START = datetime(2026, 1, 1, tzinfo=UTC)


def attempts(seed: int) -> list[datetime]:
    """Times of all attempts of a delivery that always fails at once."""
    uniform = random.Random(seed).uniform
    times = [START]
    while due := next_attempt_at(WEBHOOK_SCHEDULE, len(times), START, times[-1], uniform=uniform):
        times.append(due)
    return times


def test_a_delivery_is_attempted_over_three_days() -> None:
    for seed in range(200):
        times = attempts(seed)

        assert len(times) == 11
        assert all(earlier < later for earlier, later in pairwise(times))
        assert timedelta(days=2) < times[-1] - START < timedelta(days=3, hours=4)
        assert times[1] - START <= timedelta(seconds=5)


def test_deliveries_that_failed_together_are_not_retried_together() -> None:
    thirds = {int((attempts(seed)[5] - START) / timedelta(minutes=1)) for seed in range(200)}

    assert len(thirds) > 60


def test_after_an_outage_here_a_backlog_is_spread_from_now_on() -> None:
    now = START + timedelta(days=30)
    dues = [
        next_attempt_at(WEBHOOK_SCHEDULE, 3, START, now, uniform=random.Random(seed).uniform) for seed in range(100)
    ]

    assert all(due and now < due <= now + WEBHOOK_SCHEDULE[2] for due in dues)
    assert len(set(dues)) > 90


def test_retry_after_puts_an_attempt_off_for_a_day_at_most() -> None:
    def due(retry_after: timedelta) -> datetime | None:
        return next_attempt_at(
            WEBHOOK_SCHEDULE, 1, START, START, uniform=lambda low, high: high / 2, retry_after=retry_after
        )

    assert due(timedelta(seconds=1)) == START + timedelta(seconds=2.5)
    assert due(timedelta(hours=1)) == START + timedelta(hours=1)
    assert due(timedelta(days=400)) == START + timedelta(days=1)


def test_an_endpoint_is_given_up_after_days_of_failures_only() -> None:
    def disable(failing_since: datetime | None, failures: int, now: datetime) -> bool:
        return should_disable(failing_since, failures, now, disable_after=timedelta(days=5), min_failures=12)

    late = START + timedelta(days=5)
    assert disable(START, 12, late)
    assert not disable(START, 12, late - timedelta(seconds=1))
    # Two failures with five quiet days between them say nothing.
    assert not disable(START, 2, late)
    assert not disable(None, 0, late)
