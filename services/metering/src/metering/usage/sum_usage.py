"""Sum up what a tenant used."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple, Protocol

from chassis.errors import InvalidRequest

from metering.usage.model import BEGINNING, END, CacheSum, RightSizingSum, UsageSum


class UsageStore(Protocol):
    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        """Sum the calls settled in [start, end), ordered by UTC day, then price key. Committed calls count at once."""

    async def cache_sums(self, tenant_id: str, first: date, last: date, *, by_day: bool) -> Sequence[CacheSum]:
        """Sum what the response cache did on the UTC days from `first` to `last`, ordered by day, then model."""

    async def right_sizing_sums(
        self, tenant_id: str, first: date, last: date, *, by_day: bool
    ) -> Sequence[RightSizingSum]:
        """Sum what right-sizing did on the UTC days from `first` to `last`, ordered by day, then model."""


class TenantUsage(NamedTuple):
    """What a tenant used, and what its response cache and right-sizing did."""

    calls: Sequence[UsageSum]
    cache: Sequence[CacheSum]
    right_sizing: Sequence[RightSizingSum]


async def sum_usage(
    tenant_id: str, start: datetime | None, end: datetime | None, *, by_day: bool, usage: UsageStore
) -> TenantUsage:
    """Sum usage in [start, end); None is unbounded. Raises `InvalidRequest` when the end is before the start."""
    since = BEGINNING if start is None else min(max(start, BEGINNING), END)
    until = END if end is None else min(max(end, BEGINNING), END)
    if until < since:
        raise InvalidRequest("end is before start", param="end")
    calls = await usage.sums(tenant_id, since, until, by_day=by_day)
    if until == since:
        return TenantUsage(calls, (), ())
    first, last = since.date(), (until - timedelta(microseconds=1)).date()
    cache = await usage.cache_sums(tenant_id, first, last, by_day=by_day)
    return TenantUsage(calls, cache, await usage.right_sizing_sums(tenant_id, first, last, by_day=by_day))
