"""Reserve what cached answers cost: many requests at once, each for the exact price of what its answer consumed.

What they consumed is on record with the reservation. So a hit of which no event tells is billed when its lease is over.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from chassis.errors import ArgosyError, InvalidRequest
from values.money import MAX_TOKENS
from values.usage import AbsentClasses, CacheOutcome, TokenDetails, TokenUsage

from metering.budgets.model import Budget
from metering.prices.model import (
    ALL_TENANTS,
    MAX_DISCOUNT_PERCENT,
    PriceCache,
    UnpricedModel,
    discounted,
    validate_price_key,
)
from metering.reservations.model import (
    FIRST_ATTEMPT,
    MAX_ID_CHARACTERS,
    MIN_LEASE,
    AnnouncedAttempt,
    Bound,
    PricedReservation,
    ReserveRequest,
    is_valid_id,
)

MAX_HITS = 1_000


class HitCost(NamedTuple):
    """What a cached answer costs a tenant: its usage, less `discount_percent` of the price."""

    tenant_id: str
    price_key: str
    usage: TokenUsage
    discount_percent: int
    outcome: CacheOutcome


class HitReservation(NamedTuple):
    """A request that gets an answer; `answer` is the place of its cost."""

    request_id: str
    answer: int
    project_id: str
    key_id: str
    user_id: str


class PricedHit(NamedTuple):
    """A cached answer at its price. Its call has ended, and consumed all of its bound."""

    tenant_id: str
    bound: Bound
    attempt: AnnouncedAttempt

    def reservation_of(self, hit: HitReservation, lease: timedelta) -> PricedReservation:
        """Return what a request asks for that gets this answer."""
        request = ReserveRequest(
            self.tenant_id, hit.request_id, (self.bound.requested,), lease, hit.project_id, hit.key_id, hit.user_id
        )
        return PricedReservation(request, (self.bound,))


class ReservedHits(NamedTuple):
    """The answers with their prices, by place; those without a price are left out."""

    priced: Mapping[int, PricedHit]
    budgets: Mapping[str, Budget]
    """By tenant, after the reservations."""
    refused: Mapping[int, ArgosyError]
    """By place of the hit: `UnpricedModel`, and what `HitReservationStore` returns."""


class HitReservationStore(Protocol):
    async def reserve_hits(
        self, answers: Mapping[int, PricedHit], hits: Mapping[int, HitReservation], lease: timedelta
    ) -> tuple[Mapping[str, Budget], Mapping[int, ArgosyError]]:
        """Hold what each hit costs, in their order, or find that it holds that already; in one transaction.

        Returns the budgets of the tenants, and why hits are refused: `BudgetSpent`, `ReservationClosed`,
        `RequestIdReused`. Raises `Unavailable` when the database does not decide.
        """


async def reserve_hits(
    costs: Sequence[HitCost],
    hits: Sequence[HitReservation],
    lease: timedelta,
    *,
    prices: PriceCache,
    store: HitReservationStore,
    max_lease: timedelta,
) -> ReservedHits:
    """Price answers and hold what they cost, once for each (tenant, request).

    Raises `InvalidRequest` before a budget is read, and what `HitReservationStore` raises.
    """
    _validate(costs, hits, lease, max_lease)
    priced: dict[int, PricedHit] = {}
    unpriced: dict[int, UnpricedModel] = {}
    for place, cost in enumerate(costs):
        try:
            priced[place] = await _priced(cost, prices)
        except UnpricedModel as error:
            unpriced[place] = error
    refused: dict[int, ArgosyError] = {}
    wanted = dict(enumerate(hits))
    if unpriced:
        refused |= {place: unpriced[hit.answer] for place, hit in wanted.items() if hit.answer in unpriced}
        wanted = {place: hit for place, hit in wanted.items() if place not in refused}
    if not wanted:
        return ReservedHits(priced, {}, refused)
    budgets, not_held = await store.reserve_hits(priced, wanted, lease)
    return ReservedHits(priced, budgets, {**refused, **not_held})


async def _priced(cost: HitCost, prices: PriceCache) -> PricedHit:
    (row,) = await prices.find(cost.tenant_id, [cost.price_key])
    used = cost.usage.details or TokenDetails()
    absent = AbsentClasses(not (used.cache_write or used.cache_write_1h), not used.audio_input, not used.audio_output)
    input_tokens, output_tokens = cost.usage.known or (0, 0)
    bound = Bound(discounted(row, cost.discount_percent), input_tokens, output_tokens, absent)
    return PricedHit(cost.tenant_id, bound, AnnouncedAttempt(FIRST_ATTEMPT, 0, cost.usage, cache=cost.outcome))


def _validate(costs: Sequence[HitCost], hits: Sequence[HitReservation], lease: timedelta, max_lease: timedelta) -> None:
    # One transaction decides for many callers: a row that a constraint refuses would fail all of them.
    if not 1 <= len(hits) <= MAX_HITS:
        raise InvalidRequest(f"give 1 to {MAX_HITS} hits", param="hits")
    if not MIN_LEASE <= lease <= max_lease:
        raise InvalidRequest(f"the lease must be between {MIN_LEASE} and {max_lease}", param="lease")
    for cost in costs:
        if not is_valid_id(cost.tenant_id) or cost.tenant_id == ALL_TENANTS:
            raise InvalidRequest("an answer has no tenant that pays for it", param="answers.tenant_id")
        validate_price_key(cost.price_key, "answers.price_key")
        if cost.usage.known is None or not all(0 <= tokens <= MAX_TOKENS for tokens in cost.usage.known):
            message = f"an answer consumed a known number of tokens, at most {MAX_TOKENS}"
            raise InvalidRequest(message, param="answers.usage")
        if not 0 <= cost.discount_percent <= MAX_DISCOUNT_PERCENT:
            message = f"discount_percent must be between 0 and {MAX_DISCOUNT_PERCENT}"
            raise InvalidRequest(message, param="answers.discount_percent")
    owners: set[str] = set()
    for hit in hits:
        if not is_valid_id(hit.request_id):
            message = f"request_id needs 1 to {MAX_ID_CHARACTERS} printable characters"
            raise InvalidRequest(message, param="hits.request_id")
        if not 0 <= hit.answer < len(costs):
            raise InvalidRequest("a hit names an answer that is not there", param="hits.answer")
        owners.update(hit[2:])  # most hits have the same few
    if not all(text == "" or is_valid_id(text) for text in owners):
        raise InvalidRequest("a project, key or user is not an id", param="hits")
