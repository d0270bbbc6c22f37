"""What was used: the tokens of a call, and sums over many calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import InvalidRequest

from metering.domain.money import NanoUsd

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)


class Source(StrEnum):
    """How token counts were learnt."""

    REPORTED = "reported"
    COUNTED = "counted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one provider call consumed. A count that is not there is unknown; an explicit zero is a value."""

    source: Source
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether a bill can be made of it."""
        return self.source is not Source.UNKNOWN and self.input_tokens is not None and self.output_tokens is not None

    @property
    def is_nothing(self) -> bool:
        """Whether it is known that nothing was consumed."""
        return self.input_tokens == 0 == self.output_tokens and self.source is not Source.UNKNOWN


NO_USAGE = Usage(Source.UNKNOWN)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Calls, tokens and cost of one price key, over a day or over the whole span (`day` is None)."""

    day: date | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: NanoUsd


class UsageReports(Protocol):
    """Where usage is summed up. What is settled is in it at once."""

    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        """Sum what was settled in [start, end), ordered by day (UTC), then price key."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time cut at midnights UTC: whole days, and what sticks out before and after them."""

    first_day: date
    end_day: date
    head: tuple[datetime, datetime]
    tail: tuple[datetime, datetime]


def cut(start: datetime, end: datetime) -> Span:
    """Cut [start, end) so that whole days can be read from a daily roll-up and only the ragged ends from its source."""
    first = _midnight(start) if start == _midnight(start) else _midnight(start) + timedelta(days=1)
    last = max(_midnight(end), first)
    return Span(first.date(), last.date(), (start, min(first, end)), (last, max(end, last)))


async def sum_up(
    tenant_id: str, start: datetime | None, end: datetime | None, *, by_day: bool, reports: UsageReports
) -> Sequence[UsageSum]:
    """Sum up what a tenant used in [start, end); None is unbounded. Raises `InvalidRequest` if it ends too early."""
    since = BEGINNING if start is None else min(max(start, BEGINNING), END)
    until = END if end is None else min(max(end, BEGINNING), END)
    if until < since:
        raise InvalidRequest("end is before start", param="end")
    return await reports.sums(tenant_id, since, until, by_day=by_day)


def _midnight(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)
