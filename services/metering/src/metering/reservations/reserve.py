"""Reserve before spend."""

from datetime import timedelta
from typing import Protocol

from chassis.errors import ArgosyError, InvalidRequest
from values.money import INPUT_PRICES, MAX_TOKENS, NO_CLASS_ABSENT, nano_usd_to_usd

from metering.budgets.model import Budget, BudgetSpent
from metering.prices.model import ALL_TENANTS, MAX_DISCOUNT_PERCENT, PriceCache, discounted, validate_price_key
from metering.reservations.model import (
    MAX_BOUNDS,
    MAX_ID_CHARACTERS,
    MIN_LEASE,
    Bound,
    PricedReservation,
    RequestIdReused,
    Reservation,
    ReservationClosed,
    ReservationState,
    ReserveRequest,
    ReserveResult,
    is_valid_id,
)


class ReservationStore(Protocol):
    async def reserve(self, priced: PricedReservation) -> ReserveResult:
        """Hold the amount, or return the same reservation again for the same (tenant, request).

        The decision is durable and counts for all replicas. Raises `BudgetSpent`, `ReservationClosed`,
        `RequestIdReused`; `Unavailable` when the database does not decide.
        """


async def reserve(
    request: ReserveRequest, *, prices: PriceCache, reservations: ReservationStore, max_lease: timedelta
) -> ReserveResult:
    """Price the bounds of a request and hold the most expensive one, once for each (tenant, request).

    Raises `InvalidRequest` and `UnpricedModel` before the budget is read, and what `ReservationStore` raises.
    """
    _validate(request, max_lease)
    rows = await prices.find(request.tenant_id, [key for key, _, _ in request.bounds])
    absent = request.absent or (NO_CLASS_ABSENT,) * len(rows)
    bounds = tuple(
        Bound(discounted(row, request.discount_percent), input_tokens, output_tokens, classes)
        for row, (_, input_tokens, output_tokens), classes in zip(rows, request.bounds, absent, strict=True)
    )
    return await reservations.reserve(PricedReservation(request, bounds))


def to_result(
    priced: PricedReservation, reservation: Reservation | None, budget: Budget, *, repeated: bool
) -> ReserveResult | ArgosyError:
    """Turn the decision of a store into a result for the caller; without a reservation the budget refused."""
    if reservation is None:
        amount, left = nano_usd_to_usd(priced.amount), nano_usd_to_usd(budget.available)
        prices = ",".join(str(bound.row.price.input_per_million) for bound in priced.bounds)
        message = f"the request may cost ${amount} and the budget has ${left} left"
        return BudgetSpent(message, details={INPUT_PRICES: prices})
    if repeated and reservation.state is not ReservationState.HELD:
        return ReservationClosed(f"the reservation is {reservation.state}", param="request_id")
    if repeated and [bound.requested for bound in priced.bounds] != [bound.requested for bound in reservation.bounds]:
        return RequestIdReused("the request id reserved other bounds before", param="request_id")
    return ReserveResult(reservation, budget, repeated)


def _validate(request: ReserveRequest, max_lease: timedelta) -> None:
    # One transaction decides for many callers: a row that a constraint refuses would fail all of them.
    if not is_valid_id(request.tenant_id) or request.tenant_id == ALL_TENANTS:
        raise InvalidRequest("this caller has no tenant to reserve for", param="tenant_id")
    if not is_valid_id(request.request_id):
        raise InvalidRequest(f"request_id needs 1 to {MAX_ID_CHARACTERS} printable characters", param="request_id")
    if not 1 <= len(request.bounds) <= MAX_BOUNDS:
        raise InvalidRequest(f"give 1 to {MAX_BOUNDS} bounds", param="bounds")
    for key, input_tokens, output_tokens in request.bounds:
        validate_price_key(key, "bounds.price_key")
        for name, tokens in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
            if not 0 <= tokens <= MAX_TOKENS:
                raise InvalidRequest(f"{name} must be between 0 and {MAX_TOKENS}", param=f"bounds.{name}")
    if not 0 <= request.discount_percent <= MAX_DISCOUNT_PERCENT:
        message = f"discount_percent must be between 0 and {MAX_DISCOUNT_PERCENT}"
        raise InvalidRequest(message, param="discount_percent")
    if not MIN_LEASE <= request.lease <= max_lease:
        raise InvalidRequest(f"the lease must be between {MIN_LEASE} and {max_lease}", param="lease")
