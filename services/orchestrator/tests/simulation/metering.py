"""Metering as far as runs of jobs need it: reservations, attempts on record, and their settlement by events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from chassis.errors import Kind, RemoteError
from chassis.tenancy import Principal
from orchestrator.reservations.model import AttemptStart, Reservation, TokenBound
from orchestrator.usage.model import AttemptUsage, RequestUsage
from values.money import NanoUsd, Price
from values.usage import NO_USAGE

HELD = NanoUsd(1_000_000_000)


class SimulatedMetering:
    """`on_breach` gets what an account of the money must never show."""

    def __init__(self, on_breach: Callable[[str], None]) -> None:
        self._on_breach = on_breach
        self.is_exhausted = False
        """While it is, every new reservation is refused."""
        self.held: set[str] = set()
        """Request ids of reservations that no event has settled."""
        self.settlements: dict[str, list[RequestUsage]] = {}
        """The events of each request, without repetitions."""
        self._event_ids: set[str] = set()

    async def reserve(
        self,
        request_id: str,
        bounds: Sequence[TokenBound],
        lease: timedelta,
        timeout: timedelta,
        discount_percent: int = 0,
    ) -> Reservation:
        if request_id in self.settlements:
            raise RemoteError(Kind.CONFLICT, "RESERVATION_CLOSED", "the request is settled")
        if self.is_exhausted and request_id not in self.held:
            raise RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent")
        self.held.add(request_id)
        prices = tuple(Price(bound.price_key, "1", NanoUsd(1_000_000), NanoUsd(2_000_000)) for bound in bounds)
        return Reservation(HELD, prices)

    async def start_attempt(self, principal: Principal, start: AttemptStart, timeout: timedelta) -> NanoUsd:
        if start.request_id not in self.held:
            raise RemoteError(Kind.CONFLICT, "RESERVATION_CLOSED", "the request is settled")
        return HELD

    def settle(self, usage: RequestUsage) -> None:
        """Handle an event from the outbox; a repetition changes nothing."""
        if usage.event_id in self._event_ids:
            return
        self._event_ids.add(usage.event_id)
        before = self.settlements.setdefault(usage.request_id, [])
        if before and (usage.attempts or any(one.attempts for one in before)):
            self._on_breach(f"the request {usage.request_id} is settled twice")
        before.append(usage)
        self.held.discard(usage.request_id)

    def settled_call(self, request_id: str, number: int) -> list[AttemptUsage]:
        """Return the statements that settle a provider call as one that was made."""
        return [
            one
            for usage in self.settlements.get(request_id, ())
            for one in usage.attempts
            if one.number == number and one.usage != NO_USAGE
        ]
