"""The books: where requests are settled, expire, and can be looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from metering.domain.ledger import Transaction
from metering.domain.money import NanoUsd
from metering.domain.reservations import Reservation, is_id
from metering.domain.settlement import Posting, Settlement, UsageEvent


class RequestNotFound(ArgosyError):
    """The tenant has no such request in its books."""

    kind, reason = Kind.NOT_FOUND, "REQUEST_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class RequestAccount:
    """Everything the books know of one request."""

    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What a look over the books found, over all tenants.

    imbalance: the sum of the absolute sums of recent ledger transactions; anything but 0 is a bug.
    drift: how far budgets and the reservations they hold are apart, summed up; anything but 0 is a bug.
    held, spent: what all budgets have set aside and settled.
    """

    imbalance: NanoUsd
    drift: NanoUsd
    held: NanoUsd
    spent: NanoUsd


class Ledger(Protocol):
    """Where the ends of requests are written. Each method is one transaction: all of it counts, or nothing."""

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[Posting]:
        """Settle priced events, in their order; what is in the books already is left as it is.

        Safe to repeat and to run from many consumers at once.
        """

    async def expire(self, most: int) -> Sequence[Posting]:
        """Give back at most `most` holds whose lease ran out, by the database's clock. Any replica may call it."""

    async def account(self, tenant_id: str, request_id: str) -> RequestAccount:
        """Read the whole account of a request. Raises `RequestNotFound`."""

    async def audit(self) -> Audit:
        """Look over the books of all tenants."""


async def show(tenant_id: str, request_id: str, *, ledger: Ledger) -> RequestAccount:
    """Read the whole account of a request. Raises `RequestNotFound`, also for what could not be its id."""
    if not is_id(request_id):
        raise RequestNotFound("there is no such request", param="request_id")
    return await ledger.account(tenant_id, request_id)
