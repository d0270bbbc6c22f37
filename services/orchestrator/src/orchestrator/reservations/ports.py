"""The port of the reservations feature."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from chassis.errors import ArgosyError
from chassis.tenancy import Principal
from values.money import NanoUsd

from orchestrator.reservations.model import AttemptStart, HitRequest, Reservation, ReservedHit, TokenBound


class MeteringClient(Protocol):
    """Metering, on behalf of the current caller."""

    async def reserve(
        self,
        request_id: str,
        bounds: Sequence[TokenBound],
        lease: timedelta,
        timeout: timedelta,
        discount_percent: int = 0,
    ) -> Reservation:
        """Hold the cost of the most expensive of `bounds` for `lease`. Safe to repeat.

        `discount_percent` is taken off the prices; only services may ask for it.

        Raises `RemoteError` when metering refuses: no price, budget exhausted. `Unavailable` and `DeadlineExceeded`
        leave open whether the money is held.
        """

    async def reserve_hits(
        self, hits: Sequence[HitRequest], lease: timedelta, timeout: timedelta
    ) -> Sequence[ReservedHit | ArgosyError]:
        """Hold what cached answers cost, as a service, for any tenants. Safe to repeat.

        One result for each, in their order: an error is the refusal of that one. A hit of which no event tells within
        `lease` is billed. Raises as `reserve`, for all of them.
        """

    async def start_attempt(self, principal: Principal, start: AttemptStart, timeout: timedelta) -> NanoUsd:
        """Record that a provider call is about to be made; return what is held for the request now. Safe to repeat.

        It takes the principal, because the caller's own token may have expired. Raises as `reserve`, and `RemoteError`
        with the reason RESERVATION_CLOSED.
        """
