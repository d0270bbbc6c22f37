from collections.abc import Sequence
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from metering.budgets.model import Budget
from metering.prices.model import PriceCache, UnpricedModel
from metering.reservations.model import ReserveRequest, ReserveResult
from metering.reservations.reserve import reserve
from values.money import MAX_TOKENS, NanoUsd

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import DEFAULT_CAP, FakePriceBook, Stores, fake_stores

CHEAP, EXPENSIVE = a_price("local/cheap", 1, 1), a_price("local/expensive", 10, 10)
HOUR = timedelta(hours=1)


@pytest.fixture
def stores() -> Stores:
    return fake_stores(FakeClock())


def a_request(
    bounds: Sequence[tuple[str, int, int]] = (("local/cheap", 10, 10),),
    *,
    request_id: str = "req_1",
    lease: timedelta = HOUR,
    tenant_id: str = "ten_a",
) -> ReserveRequest:
    return ReserveRequest(tenant_id, request_id, bounds, lease)


async def reserve_priced(stores: Stores, request: ReserveRequest) -> ReserveResult:
    clock = FakeClock()
    prices = PriceCache(FakePriceBook(clock, [CHEAP, EXPENSIVE]), clock, HOUR)
    return await reserve(request, prices=prices, reservations=stores.reservations, max_lease=HOUR)


async def test_the_most_expensive_candidate_is_held_because_one_of_them_answers(stores: Stores) -> None:
    result = await reserve_priced(
        stores, a_request([("local/cheap", 100, 50), ("local/expensive", 100, 50), ("local/cheap", 1, 1)])
    )

    assert result.reservation.held == 1500
    assert [bound.row for bound in result.reservation.bounds] == [CHEAP, EXPENSIVE, CHEAP]
    assert result.budget == Budget(DEFAULT_CAP, held=NanoUsd(1500))


async def test_an_unpriced_candidate_refuses_the_request_before_the_budget_is_read(stores: Stores) -> None:
    with pytest.raises(UnpricedModel):
        await reserve_priced(stores, a_request([("local/cheap", 1, 1), ("local/unknown", 1, 1)]))
    assert await stores.budgets.read("ten_a") == Budget(DEFAULT_CAP)


@pytest.mark.parametrize(
    ("invalid", "param"),
    [
        (a_request([]), "bounds"),
        (a_request([("local/cheap", 1, 1)] * 65), "bounds"),
        (a_request([("cheap", 1, 1)]), "bounds.price_key"),
        (a_request([("local/cheap", -1, 1)]), "bounds.input_tokens"),
        (a_request([("local/cheap", 1, -(2**63))]), "bounds.output_tokens"),
        (a_request([("local/cheap", MAX_TOKENS + 1, 1)]), "bounds.input_tokens"),
        (a_request([("local/cheap", 1, 2**63 - 1)]), "bounds.output_tokens"),
        (a_request(tenant_id=""), "tenant_id"),
        (a_request(tenant_id="*"), "tenant_id"),
        (a_request(request_id=""), "request_id"),
        (a_request(request_id="r" * 129), "request_id"),
        (a_request(request_id="req_\0"), "request_id"),
        (a_request(lease=timedelta(0)), "lease"),
        (a_request(lease=-HOUR), "lease"),
        (a_request(lease=2 * HOUR), "lease"),
    ],
)
async def test_an_invalid_field_is_refused_and_named(stores: Stores, invalid: ReserveRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await reserve_priced(stores, invalid)
    assert refused.value.param == param
    assert (await stores.budgets.read("ten_a")).held == 0


async def test_zero_tokens_hold_nothing_and_are_a_reservation(stores: Stores) -> None:
    await stores.budgets.set_cap("ten_a", NanoUsd(0))
    assert (await reserve_priced(stores, a_request([("local/cheap", 0, 0)]))).reservation.held == 0
