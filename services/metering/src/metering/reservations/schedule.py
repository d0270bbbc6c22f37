"""The sweeper: expires reservations whose lease is over, once it is certain that no usage event will settle them.

Every replica runs one. A lease says only that nothing came in time; the orchestrator says whether something can still
come.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.telemetry import logger

from metering.metrics import EXPIRED, EXTENDED, OVERDUE
from metering.reservations.model import RequestRef

LOG_INTERVAL = timedelta(minutes=1)

log = logger("metering.reservations")


class LeaseStore(Protocol):
    """Leases by the database's clock."""

    async def overdue(self, limit: int) -> Sequence[RequestRef]:
        """List held reservations whose lease is over, the oldest first."""

    async def extend(self, requests: Sequence[RequestRef], extension: timedelta) -> None:
        """Give those that are still held and overdue another lease."""


class ExpireRequests(Protocol):
    async def __call__(self, requests: Sequence[RequestRef]) -> int:
        """Expire those that are still held and overdue, in one transaction; return how many.

        Replicas that call it at the same time expire different ones.
        """


class RequestStates(Protocol):
    async def known(self, requests: Sequence[RequestRef]) -> Sequence[bool]:
        """Whether the orchestrator still answers each request, or has its usage to publish. Raises `Unavailable`."""


class UsageEvents(Protocol):
    async def all_settled(self) -> bool:
        """Whether every usage event that was published until now is settled. Raises `Unavailable`."""


class Sweeper:
    def __init__(
        self,
        leases: LeaseStore,
        expire: ExpireRequests,
        states: RequestStates,
        events: UsageEvents,
        clock: Clock,
        *,
        max_batch: int,
        extension: timedelta,
    ) -> None:
        self._leases = leases
        self._expire = expire
        self._states = states
        self._events = events
        self._clock = clock
        self._max_batch = max_batch
        self._extension = extension
        self._log_after: datetime | None = None

    async def run_once(self) -> bool:
        """Handle one batch; return whether there may be more. While another part does not answer, nothing is freed."""
        overdue = await self._leases.overdue(self._max_batch)
        if not overdue:
            self._report([], "")
            return False
        try:
            known = await self._states.known(overdue)
        except ArgosyError as error:
            self._report(overdue, error.reason, error.message)
            return False
        kept = [request for request, is_known in zip(overdue, known, strict=True) if is_known]
        if kept:
            await self._leases.extend(kept, self._extension)
            EXTENDED.inc(len(kept))
        unknown = [request for request, is_known in zip(overdue, known, strict=True) if not is_known]
        if unknown and not await self._may_expire(unknown):
            return False
        if unknown and (expired := await self._expire(unknown)):
            EXPIRED.inc(expired)
            log.warning("reservations_expired", count=expired)
        self._report([], "")
        return len(overdue) == self._max_batch

    async def _may_expire(self, unknown: Sequence[RequestRef]) -> bool:
        """Whether all events are settled that the orchestrator may have published before it said "unknown"."""
        try:
            if await self._events.all_settled():
                return True
        except ArgosyError as error:
            self._report(unknown, error.reason, error.message)
            return False
        self._report(unknown, "USAGE_EVENTS_WAIT")
        return False

    def _report(self, blocked: Sequence[RequestRef], reason: str, message: str = "") -> None:
        """Show what cannot be expired: in the metric at once, in the log once a minute."""
        OVERDUE.set(len(blocked))
        now = self._clock.now()
        if not blocked:
            if self._log_after is not None:
                log.info("overdue_reservations_recovered")
            self._log_after = None
        elif self._log_after is None or now >= self._log_after:
            log.warning("overdue_reservations_kept", count=len(blocked), reason=reason, message=message)
            self._log_after = now + LOG_INTERVAL
