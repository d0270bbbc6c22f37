from collections.abc import Sequence
from datetime import timedelta

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import FakeClock
from metering.domain.budgets import Budget
from metering.domain.money import MAX_TOKENS, NanoUsd
from metering.domain.prices import Prices, UnpricedModel
from metering.domain.reservations import Held, Wish, reserve

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import DEFAULT_CAP, Books, FakePriceBook, fake_books

CHEAP, DEAR = a_price("local/cheap", 1, 1), a_price("local/dear", 10, 10)
HOUR = timedelta(hours=1)


@pytest.fixture
def books() -> Books:
    return fake_books(FakeClock())


def a_wish(
    bounds: Sequence[tuple[str, int, int]] = (("local/cheap", 10, 10),),
    *,
    request_id: str = "req_1",
    lease: timedelta = HOUR,
    tenant_id: str = "ten_a",
) -> Wish:
    return Wish(tenant_id, request_id, bounds, lease)


async def ask(books: Books, wish: Wish) -> Held:
    clock = FakeClock()
    prices = Prices(FakePriceBook(clock, [CHEAP, DEAR]), clock, HOUR)
    return await reserve(wish, prices=prices, reservations=books.reservations, max_lease=HOUR)


async def test_the_dearest_candidate_is_held_because_one_of_them_answers(books: Books) -> None:
    held = await ask(books, a_wish([("local/cheap", 100, 50), ("local/dear", 100, 50), ("local/cheap", 1, 1)]))

    assert held.reservation.held == 1500
    assert [bound.price for bound in held.reservation.bounds] == [CHEAP, DEAR, CHEAP]
    assert held.budget == Budget(DEFAULT_CAP, held=NanoUsd(1500))


async def test_an_unpriced_candidate_refuses_the_request_before_the_budget_is_asked(books: Books) -> None:
    with pytest.raises(UnpricedModel):
        await ask(books, a_wish([("local/cheap", 1, 1), ("local/unknown", 1, 1)]))
    assert await books.budgets.read("ten_a") == Budget(DEFAULT_CAP)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        (a_wish([]), "bounds"),
        (a_wish([("local/cheap", 1, 1)] * 65), "bounds"),
        (a_wish([("cheap", 1, 1)]), "bounds.price_key"),
        (a_wish([("local/cheap", -1, 1)]), "bounds.input_tokens"),
        (a_wish([("local/cheap", 1, -(2**63))]), "bounds.output_tokens"),
        (a_wish([("local/cheap", MAX_TOKENS + 1, 1)]), "bounds.input_tokens"),
        (a_wish([("local/cheap", 1, 2**63 - 1)]), "bounds.output_tokens"),
        (a_wish(tenant_id=""), "tenant_id"),
        (a_wish(tenant_id="*"), "tenant_id"),
        (a_wish(request_id=""), "request_id"),
        (a_wish(request_id="r" * 129), "request_id"),
        (a_wish(request_id="req_\0"), "request_id"),
        (a_wish(lease=timedelta(0)), "lease"),
        (a_wish(lease=-HOUR), "lease"),
        (a_wish(lease=2 * HOUR), "lease"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_named(books: Books, wish: Wish, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ask(books, wish)
    assert refused.value.param == param
    assert (await books.budgets.read("ten_a")).held == 0


async def test_zero_tokens_hold_nothing_and_are_a_reservation(books: Books) -> None:
    await books.budgets.set_cap("ten_a", NanoUsd(0))
    assert (await ask(books, a_wish([("local/cheap", 0, 0)]))).reservation.held == 0


@pytest.mark.parametrize(
    ("spent", "held", "passed"), [(79, 0, False), (80, 0, True), (40, 40, True), (40, 39, False), (0, 100, True)]
)
def test_the_soft_limit_is_passed_by_what_is_spent_and_held_together(spent: int, held: int, passed: bool) -> None:
    assert Budget(NanoUsd(100), NanoUsd(spent), NanoUsd(held)).has_passed(80) is passed
