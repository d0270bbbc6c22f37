"""Requests, prices and events as tests of metering like them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chassis.ids import new_id
from metering.domain.money import NanoUsd
from metering.domain.prices import Price
from metering.domain.reservations import Bound, Hold
from metering.domain.settlement import Attempt, UsageEvent
from metering.domain.usage import Source, Usage

LONG, OVER = timedelta(minutes=10), timedelta(0)
UNKNOWN = Usage(Source.UNKNOWN)
NONE = Usage(Source.REPORTED, 0, 0)


def a_price(price_key: str = "local/tiny", input_usd: int = 1, output_usd: int = 2) -> Price:
    """Make a price that costs that many nano-USD per token."""
    million = 1_000_000
    return Price(
        price_key,
        new_id("prc_"),
        NanoUsd(input_usd * million),
        NanoUsd(output_usd * million),
        datetime(2026, 1, 1, tzinfo=UTC),
    )


def a_hold(
    tenant_id: str, price: Price, amount: int, *, request_id: str | None = None, lease: timedelta = LONG
) -> Hold:
    """Ask for `amount` nano-USD, as input tokens at a price of one each."""
    return Hold(tenant_id, request_id or new_id("req_"), (Bound(price, amount, 0),), lease, "prj_1", "key_1")


def reported(tokens: int) -> Usage:
    """Report input tokens."""
    return Usage(Source.REPORTED, tokens, 0)


def an_event(hold: Hold, *usages: Usage, first: int = 1, price: Price | None = None) -> UsageEvent:
    """Tell of one call per usage, at the price of the hold."""
    price = price or hold.bounds[0].price
    attempts = tuple(
        Attempt(number, price.price_key, price.version, usage, price) for number, usage in enumerate(usages, first)
    )
    return UsageEvent(hold.tenant_id, new_id("evt_"), hold.request_id, attempts, "prj_1", "key_1")
