"""Charges a cached answer: its price is reserved, and its event settles it."""

import asyncio
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from chassis.errors import InvalidRequest, RemoteError
from chassis.tenancy import Principal
from values.money import ZERO, NanoUsd, Price, cost, discount
from values.usage import NO_USAGE, AbsentClasses, TokenDetails

from orchestrator.limits import Deadline
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.charge_together import FIRST_ATTEMPT, GroupedCharges, is_unknown_method
from orchestrator.response_cache.model import FREE_PERCENT, Hit
from orchestrator.usage.hits import HitRecorder
from orchestrator.usage.model import AttemptUsage, CacheUse, RequestUsage
from orchestrator.usage.record import UsageRecorder


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
    together: GroupedCharges

    async def charge(self, principal: Principal, request_id: str, hit: Hit, model: str, deadline: Deadline) -> Charged:
        """Charge a hit that is not free, at the current price book. Raises as a reservation.

        Then it is billed, whether the client still waits or not.
        """
        if deadline.remaining() > self.together.timeout:
            try:
                reserved = await self.together.charge(principal, request_id, hit, model)
                return Charged(hit, reserved.price, reserved.soft_limit_passed)
            except RemoteError as error:
                # One hit that is not valid fails the call for those of all tenants in it: each is judged by itself.
                if not is_unknown_method(error) and error.reason != InvalidRequest.reason:
                    raise
        return await self._charge_alone(principal, request_id, hit, model, deadline)

    async def _charge_alone(
        self, principal: Principal, request_id: str, hit: Hit, model: str, deadline: Deadline
    ) -> Charged:
        """Charge it with a reservation and an event of its own: it has little time, or metering takes no group."""
        answer = hit.answer
        tokens = answer.usage.known or (0, 0)
        reservations = replace(self.reservations, discount_percent=hit.percent_off)
        bound = TokenBound(answer.price_key, *tokens, absent_classes(answer.usage.details))
        reservation = await reservations.reserve(principal, request_id, (bound,), deadline)
        charged = Charged(hit, reservation.prices[0], reservation.soft_limit_passed)
        attempt = AttemptUsage(FIRST_ATTEMPT, charged.price, answer.usage)
        use = CacheUse(hit.outcome, model, FIRST_ATTEMPT)
        # There is no await between the reservation and this task: it is settled also when the client leaves.
        tasks = self.reservations.tasks
        work = self.recorder.record(principal, request_id, (attempt,), use)
        task = tasks.start(work, (principal.tenant_id, request_id))
        try:
            await asyncio.shield(task)
        finally:
            tasks.detach(task)
        return charged

    def record_free(self, principal: Principal, request_id: str, hit: Hit, model: str) -> Charged:
        """Let a free hit be recorded soon, together with others. Raises `Unavailable` if too many wait for that."""
        answer = hit.answer
        # The price of its own time: its version lets metering tell what was saved.
        price = free_price(answer.price_key, answer.price_version)
        attempt, use = AttemptUsage(FIRST_ATTEMPT, price, answer.usage), CacheUse(hit.outcome, model, FIRST_ATTEMPT)
        owner = (principal.tenant_id, principal.project_id, principal.key_id)
        self.hits.require_room()
        self.hits.add(RequestUsage("", *owner, request_id, (attempt,), use))
        return Charged(hit, price, soft_limit_passed=False)


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
