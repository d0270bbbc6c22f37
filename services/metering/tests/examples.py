"""Prices, reservations and usage events for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chassis.ids import new_id
from metering.prices.model import PriceRow
from metering.reservations.model import Bound, PricedReservation, Reservation, ReserveRequest
from metering.settlement.model import Alternative, Attempt, UsageEvent
from metering.usage.model import CacheUse, RightSizingUse
from prometheus_client import REGISTRY
from values.money import ClassPrices, NanoUsd, Price
from values.usage import CacheOutcome, TokenDetails, TokenUsage, UsageSource

if TYPE_CHECKING:
    from services.metering.tests.fakes import Stores

LONG_LEASE, EXPIRED_LEASE = timedelta(minutes=10), timedelta(0)
UNKNOWN = TokenUsage(UsageSource.UNKNOWN)
NONE = TokenUsage(UsageSource.REPORTED, 0, 0)


def a_price(price_key: str = "local/tiny", input_usd: int = 1, output_usd: int = 2) -> PriceRow:
    """Make a price of that many nano-USD per token."""
    million = 1_000_000
    price = Price(price_key, new_id("prc_"), NanoUsd(input_usd * million), NanoUsd(output_usd * million))
    return PriceRow(price, datetime(2026, 1, 1, tzinfo=UTC))


def a_reservation(
    tenant_id: str, price: PriceRow, amount: int, *, request_id: str | None = None, lease: timedelta = LONG_LEASE
) -> PricedReservation:
    """Ask for `amount` nano-USD: that many input tokens at a price of 1 nano-USD each."""
    request = ReserveRequest(
        tenant_id, request_id or new_id("req_"), [(price.price.key, amount, 0)], lease, "prj_1", "key_1"
    )
    return PricedReservation(request, (Bound(price, amount, 0),))


def with_classes(row: PriceRow, classes: ClassPrices) -> PriceRow:
    """Give classes prices of their own."""
    return replace(row, price=row.price._replace(classes=classes))


def reported(tokens: int, cached: int = 0, written: int = 0) -> TokenUsage:
    """Report that many input tokens, of which so many came from the provider's cache, or were written to it."""
    return TokenUsage(UsageSource.REPORTED, tokens, 0, TokenDetails(cached, written).within(tokens, 0))


def an_event(
    priced: PricedReservation, *usages: TokenUsage, first: int = 1, price: PriceRow | None = None
) -> UsageEvent:
    """Make an event with one call per usage, at the price of the reservation; attempts count from `first`."""
    row = (price or priced.bounds[0].row).price
    attempts = tuple(Attempt(number, row.key, row.version, usage, row) for number, usage in enumerate(usages, first))
    return UsageEvent(priced.request.tenant_id, new_id("evt_"), priced.request.request_id, attempts, "prj_1", "key_1")


def as_cached(event: UsageEvent, full: PriceRow) -> UsageEvent:
    """Make the only call of an event an answer of the cache, whose price without a discount is `full`."""
    (attempt,) = event.attempts
    cached = replace(attempt, cache=CacheOutcome.HIT, full_price=full.price)
    return replace(event, attempts=(cached,), cache=CacheUse(CacheOutcome.HIT, "smollm2", attempt.number))


def as_easy(event: UsageEvent, alternative: PriceRow, answer: int = 1) -> UsageEvent:
    """Make the first call of an event one of a cheap candidate, which is compared with `alternative`."""
    price = alternative.price
    first, *others = event.attempts
    sized = replace(first, alternative=Alternative(price, answered=first.number == answer))
    use = RightSizingUse("gpt", price.key, price.version, frozenset({first.number}), answer)
    return replace(event, attempts=(sized, *others), right_sizing=use)


def metric(name: str, **labels: str) -> float:
    """Return the value of a metric of metering."""
    return REGISTRY.get_sample_value(f"metering_{name}", labels) or 0.0


async def expire_overdue(stores: Stores, limit: int) -> list[Reservation]:
    """Expire at most `limit` overdue reservations, as the sweeper does when the orchestrator knows none of them."""
    overdue = await stores.leases.overdue(limit)
    changes = await stores.settlements.expire(overdue) if overdue else []
    return [change.reservation for change in changes]
