"""Sum up what a tenant used."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from chassis.errors import InvalidRequest

from metering.usage.model import BEGINNING, END, UsageSum


class UsageStore(Protocol):
    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        """Sum the calls settled in [start, end), ordered by UTC day, then price key. Committed calls count at once."""


async def sum_usage(
    tenant_id: str, start: datetime | None, end: datetime | None, *, by_day: bool, usage: UsageStore
) -> Sequence[UsageSum]:
    """Sum usage in [start, end); None is unbounded. Raises `InvalidRequest` when the end is before the start."""
    since = BEGINNING if start is None else min(max(start, BEGINNING), END)
    until = END if end is None else min(max(end, BEGINNING), END)
    if until < since:
        raise InvalidRequest("end is before start", param="end")
    return await usage.sums(tenant_id, since, until, by_day=by_day)
