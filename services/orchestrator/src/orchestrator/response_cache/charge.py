"""Charges a cached answer: at least its price is reserved, and one event settles it."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from chassis.tenancy import Principal
from values.money import ZERO, NanoUsd, Price, cost, discount
from values.usage import NO_USAGE, AbsentClasses, TokenDetails

from orchestrator.limits import Deadline
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.model import FREE_PERCENT, Hit
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import AttemptUsage, CacheUse, RequestUsage
from orchestrator.usage.record import UsageRecorder

FIRST_ATTEMPT = 1


class Charged(NamedTuple):
    """A hit with the price of its tokens."""

    hit: Hit
    price: Price
    soft_limit_passed: bool

    @property
    def cost(self) -> NanoUsd:
        tokens = None if self.hit.is_free else self.hit.answer.usage.known
        return ZERO if tokens is None else cost(*tokens, self.price, self.hit.answer.usage.details)


@dataclass(frozen=True, slots=True)
class CacheCharges:
    """Reserves and records what cached answers cost."""

    reservations: Reservations
    recorder: UsageRecorder
    hits: HitRecorder

    async def reserve(self, principal: Principal, request_id: str, hit: Hit, deadline: Deadline) -> Charged:
        """Reserve the price of a hit that is not free, in the current price book. Raises as a reservation."""
        answer = hit.answer
        tokens = answer.usage.known or (0, 0)
        reservations = replace(self.reservations, discount_percent=hit.percent_off)
        bound = TokenBound(answer.price_key, *tokens, absent_classes(answer.usage.details))
        reservation = await reservations.reserve(principal, request_id, (bound,), deadline)
        return Charged(hit, reservation.prices[0], reservation.soft_limit_passed)

    def record_free(self, principal: Principal, request_id: str, hit: Hit, model: str) -> Charged:
        """Let a free hit be recorded soon, together with others. Raises `Unavailable` if too many wait for that."""
        answer = hit.answer
        # The price of its own time: its version lets metering tell what was saved.
        price = free_price(answer.price_key, answer.price_version)
        attempt, use = AttemptUsage(FIRST_ATTEMPT, price, answer.usage), CacheUse(hit.outcome, model, FIRST_ATTEMPT)
        owner = (principal.tenant_id, principal.project_id, principal.key_id)
        self.hits.add(RequestUsage("", *owner, request_id, (attempt,), use))
        return Charged(hit, price, soft_limit_passed=False)

    async def record(self, principal: Principal, request_id: str, charged: Charged, model: str) -> None:
        """Record the event that settles a hit."""
        attempt = AttemptUsage(FIRST_ATTEMPT, charged.price, charged.hit.answer.usage)
        use = CacheUse(charged.hit.outcome, model, FIRST_ATTEMPT)
        await self.recorder.record(principal, request_id, (attempt,), use)


def absent_classes(details: TokenDetails | None) -> AbsentClasses:
    """Return the classes that a known usage does not have."""
    used = details or TokenDetails()
    return AbsentClasses(not (used.cache_write or used.cache_write_1h), not used.audio_input, not used.audio_output)


@lru_cache(maxsize=1024)
def free_price(price_key: str, version: str) -> Price:
    """Return the price of a free answer; its version names the price that is not asked for."""
    return discount(Price(price_key, version, ZERO, ZERO), FREE_PERCENT)


def stale_attempt(number: int, hit: Hit, reservation: Reservation) -> AttemptUsage:
    """Return what stands for a stale answer among the attempts of its request, at the prices reserved for those."""
    answer = hit.answer
    reserved = next((price for price in reservation.prices if price.key == answer.price_key), None)
    if reserved is None:
        return AttemptUsage(number, free_price(answer.price_key, answer.price_version), NO_USAGE)
    return AttemptUsage(number, discount(reserved, hit.percent_off), answer.usage)
