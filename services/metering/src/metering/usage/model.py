"""Sums of usage, and intervals split at midnights."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from values.money import NanoUsd

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Calls, tokens and cost of one price key, of one UTC day or of the whole interval (`day` is None)."""

    day: date | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: NanoUsd


@dataclass(frozen=True, slots=True)
class SplitInterval:
    """Whole UTC days, and the parts before and after them."""

    first_day: date
    end_day: date
    head: tuple[datetime, datetime]
    tail: tuple[datetime, datetime]


def split_at_midnights(start: datetime, end: datetime) -> SplitInterval:
    """Split [start, end), so that whole days are read from the daily roll-up and only the rest from settlements."""
    first = _midnight(start) if start == _midnight(start) else _midnight(start) + timedelta(days=1)
    last = max(_midnight(end), first)
    return SplitInterval(first.date(), last.date(), (start, min(first, end)), (last, max(end, last)))


def _midnight(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)
