"""What cached answers hold in the metering client in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from chassis.errors import ArgosyError, Kind, RemoteError
from orchestrator.reservations.model import HitRequest, ReservedHit, TokenBound
from orchestrator.response_cache.charge import absent_classes
from values.money import discount, max_cost

if TYPE_CHECKING:
    from services.orchestrator.tests.fakes import FakeMeteringClient


def reserve_fake_hits(
    metering: FakeMeteringClient, hits: Sequence[HitRequest], lease: timedelta
) -> list[ReservedHit | ArgosyError]:
    """Hold what each costs, as long as there is enough for it beside the others."""
    results: list[ReservedHit | ArgosyError] = []
    available = metering.available
    for hit in hits:
        try:
            price = discount(metering.price_of(hit.price_key), hit.discount_percent)
        except RemoteError as error:
            results.append(error)
            continue
        bound = TokenBound(hit.price_key, *(hit.usage.known or (0, 0)), absent_classes(hit.usage.details))
        held = max_cost(bound.input_tokens, bound.output_tokens, price, bound.absent)
        if held > available:
            results.append(RemoteError(Kind.EXHAUSTED, "INSUFFICIENT_QUOTA", "the budget is spent"))
            continue
        available -= held
        metering.reserved[hit.request_id] = ((bound,), lease)
        metering.discounts[hit.request_id] = hit.discount_percent
        results.append(ReservedHit(price, metering.soft_limit_passed))
    return results
