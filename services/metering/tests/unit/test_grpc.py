from datetime import timedelta

import pytest
from argosy.common.v1 import common_pb2 as common
from argosy.metering.v1 import metering_pb2 as pb
from chassis.errors import ArgosyError, InvalidRequest, PermissionDenied
from chassis.grpc import duration_to_proto, timestamp_to_proto
from chassis.tenancy import PrincipalInvalid, as_caller
from chassis.testing import FakeClock, a_caller, a_principal
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from metering.api.servicer import MeteringServicer, ReservePolicy
from metering.domain.books import RequestNotFound
from metering.domain.budgets import BudgetSpent, CapBelowSpend
from metering.domain.money import NanoUsd
from metering.domain.prices import NoNews, Prices, UnpricedModel
from metering.metrics import RESERVATIONS

from services.metering.tests.examples import UNKNOWN, a_hold, a_price, an_event, reported
from services.metering.tests.fakes import Books, FakePriceBook, fake_books

CHAT, EMBEDDING = a_price("local/chat", 1, 2), a_price("minilm/embed", 3, 0)
CAP = NanoUsd(1000)
MEMBER, ADMIN = a_caller(a_principal("ten_a")), a_caller(a_principal("ten_root", roles=["admin"]))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def books(clock: FakeClock) -> Books:
    return fake_books(clock, CAP)


@pytest.fixture
def servicer(clock: FakeClock, books: Books) -> MeteringServicer:
    return MeteringServicer(
        prices=Prices(FakePriceBook(clock, [CHAT, EMBEDDING]), clock, timedelta(seconds=5)),
        news=NoNews(),
        budgets=books.budgets,
        reservations=books.reservations,
        ledger=books.ledger,
        reports=books.reports,
        policy=ReservePolicy(timedelta(minutes=10), timedelta(hours=1), 80),
    )


def a_request(tokens: int = 100, request_id: str = "req_1", **more: object) -> pb.ReserveRequest:
    bounds = [pb.Bound(price_key="local/chat", input_tokens=tokens)]
    return pb.ReserveRequest(request_id=request_id, bounds=bounds, **more)  # type: ignore[arg-type]


def counted(outcome: str) -> float:
    return float(RESERVATIONS.labels(outcome)._value.get())


async def test_a_reservation_answers_what_is_held_and_at_which_prices(servicer: MeteringServicer) -> None:
    request = pb.ReserveRequest(
        request_id="req_1",
        bounds=[
            pb.Bound(price_key="minilm/embed", input_tokens=10),
            pb.Bound(price_key="local/chat", input_tokens=10, output_tokens=30),
        ],
    )
    with as_caller(MEMBER):
        response = await servicer.Reserve(request, None)

    assert response.held.nano_usd == 70
    assert [price.version for price in response.prices] == [EMBEDDING.version, CHAT.version]
    assert response.prices[1].output_per_million.nano_usd == 2_000_000
    assert response.prices[0].effective_at == timestamp_to_proto(EMBEDDING.effective_at)
    assert not response.soft_limit_passed


async def test_a_repeat_gets_the_same_answer(servicer: MeteringServicer) -> None:
    before = counted("repeated")
    with as_caller(MEMBER):
        assert await servicer.Reserve(a_request(), None) == await servicer.Reserve(a_request(), None)
    assert counted("repeated") == before + 1


async def test_the_soft_limit_is_told_at_80_percent(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        assert not (await servicer.Reserve(a_request(799), None)).soft_limit_passed
        assert (await servicer.Reserve(a_request(1, "req_2"), None)).soft_limit_passed


async def test_money_stays_aside_as_long_as_the_caller_says_or_by_default(
    servicer: MeteringServicer, clock: FakeClock
) -> None:
    lease = duration_to_proto(timedelta(seconds=90))
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(), None)
        await servicer.Reserve(a_request(request_id="req_2", lease=lease), None)
        leases = [
            (
                await servicer.GetRequestStatement(pb.GetRequestStatementRequest(request_id=name), None)
            ).reservation.expires_at
            for name in ("req_1", "req_2")
        ]
    assert leases == [timestamp_to_proto(clock.now() + timedelta(seconds=seconds)) for seconds in (600, 90)]


@pytest.mark.parametrize(
    ("request_", "error", "outcome"),
    [
        (a_request(1001), BudgetSpent, "insufficient_quota"),
        (a_request(-1), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=10**11)), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=2**62)), InvalidRequest, "invalid_request"),
        (a_request(lease=Duration(seconds=-1)), InvalidRequest, "invalid_request"),
        (
            pb.ReserveRequest(request_id="r", bounds=[pb.Bound(price_key="local/none")]),
            UnpricedModel,
            "unpriced_model",
        ),
    ],
)
async def test_a_refusal_is_typed_and_counted(
    servicer: MeteringServicer, request_: pb.ReserveRequest, error: type[ArgosyError], outcome: str
) -> None:
    before = counted(outcome)
    with as_caller(MEMBER), pytest.raises(error):
        await servicer.Reserve(request_, None)
    assert counted(outcome) == before + 1


async def test_nobody_is_served_without_a_principal(servicer: MeteringServicer) -> None:
    with pytest.raises(PrincipalInvalid):
        await servicer.Reserve(a_request(), None)
    with pytest.raises(PrincipalInvalid):
        await servicer.GetBudget(pb.GetBudgetRequest(), None)


async def test_the_account_of_a_request_is_shown_whole(servicer: MeteringServicer, books: Books) -> None:
    hold = a_hold("ten_a", CHAT, 100)
    await books.reservations.hold(hold)
    await books.ledger.settle([an_event(hold, reported(60), UNKNOWN)])
    with as_caller(MEMBER):
        account = await servicer.GetRequestStatement(pb.GetRequestStatementRequest(request_id=hold.request_id), None)

    assert account.reservation.state == pb.RESERVATION_STATE_SETTLED
    assert account.reservation.held.nano_usd == 100
    billed, exposed = account.settlements
    assert (billed.attempt, billed.outcome, billed.cost.nano_usd) == (1, pb.SETTLEMENT_OUTCOME_BILLED, 60)
    assert (billed.usage.input_tokens, billed.usage.HasField("output_tokens")) == (60, True)
    assert (exposed.outcome, exposed.usage.HasField("input_tokens")) == (pb.SETTLEMENT_OUTCOME_EXPOSED, False)
    assert exposed.usage.source == common.USAGE_SOURCE_UNKNOWN
    assert [(entry.account, entry.amount.nano_usd) for entry in account.entries] == [
        ("receivable", 60),
        ("revenue", -60),
        ("exposure", 100),
        ("suspense", -100),
    ]


async def test_a_request_of_another_tenant_is_not_found(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(), None)
    for caller in (a_caller(a_principal("ten_b")), ADMIN):
        with as_caller(caller), pytest.raises(RequestNotFound):
            await servicer.GetRequestStatement(pb.GetRequestStatementRequest(request_id="req_1"), None)


async def test_usage_is_the_tenant_s_own_and_adds_up(
    servicer: MeteringServicer, books: Books, clock: FakeClock
) -> None:
    for price in (CHAT, EMBEDDING):
        await books.ledger.settle([an_event(a_hold("ten_a", price, 0), reported(10))])
    with as_caller(MEMBER):
        usage = await servicer.GetUsage(pb.GetUsageRequest(by_day=True), None)
        later = pb.GetUsageRequest(start=timestamp_to_proto(clock.now() + timedelta(seconds=1)))
        assert await servicer.GetUsage(later, None) == pb.GetUsageResponse(total=common.Money(nano_usd=0))
    with as_caller(a_caller(a_principal("ten_b"))):
        assert (await servicer.GetUsage(pb.GetUsageRequest(), None)).rows == []

    assert [(row.price_key, row.calls, row.cost.nano_usd) for row in usage.rows] == [
        ("local/chat", 1, 10),
        ("minilm/embed", 1, 30),
    ]
    assert usage.rows[0].day == timestamp_to_proto(clock.now().replace(hour=0, minute=0))
    assert usage.total.nano_usd == 40


@pytest.mark.parametrize("field", ["start", "end"])
async def test_a_time_out_of_range_is_refused(servicer: MeteringServicer, field: str) -> None:
    request = pb.GetUsageRequest(**{field: Timestamp(seconds=2**60)})  # type: ignore[arg-type]
    with as_caller(MEMBER), pytest.raises(InvalidRequest) as refused:
        await servicer.GetUsage(request, None)
    assert refused.value.param == field


async def test_an_admin_sets_the_cap_of_any_tenant(servicer: MeteringServicer) -> None:
    request = pb.SetBudgetRequest(tenant_id="ten_a", cap=common.Money(nano_usd=5))
    with as_caller(ADMIN):
        assert (await servicer.SetBudget(request, None)).budget.cap.nano_usd == 5
    with as_caller(MEMBER):
        assert (await servicer.GetBudget(pb.GetBudgetRequest(), None)).budget.cap.nano_usd == 5
    with as_caller(ADMIN):
        assert (await servicer.GetBudget(pb.GetBudgetRequest(), None)).budget.cap.nano_usd == CAP


async def test_a_cap_that_is_not_said_stops_nobody(servicer: MeteringServicer) -> None:
    with as_caller(ADMIN):
        with pytest.raises(InvalidRequest) as refused:
            await servicer.SetBudget(pb.SetBudgetRequest(tenant_id="ten_a"), None)
        zero = pb.SetBudgetRequest(tenant_id="ten_b", cap=common.Money(nano_usd=0))
        assert (await servicer.SetBudget(zero, None)).budget.cap.nano_usd == 0

    assert refused.value.param == "cap"
    with as_caller(MEMBER):
        assert (await servicer.GetBudget(pb.GetBudgetRequest(), None)).budget.cap.nano_usd == CAP


async def test_a_cap_is_neither_negative_nor_below_what_is_spent_and_held(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        await servicer.Reserve(a_request(100), None)
    with as_caller(ADMIN):
        with pytest.raises(InvalidRequest):
            await servicer.SetBudget(pb.SetBudgetRequest(tenant_id="ten_a", cap=common.Money(nano_usd=-1)), None)
        with pytest.raises(CapBelowSpend):
            await servicer.SetBudget(pb.SetBudgetRequest(tenant_id="ten_a", cap=common.Money(nano_usd=99)), None)


async def test_an_admin_puts_a_price_in_force_and_everybody_sees_it(servicer: MeteringServicer) -> None:
    price = pb.Price(
        price_key="local/chat", input_per_million=common.Money(nano_usd=0), output_per_million=common.Money(nano_usd=9)
    )
    with as_caller(ADMIN):
        made = (await servicer.SetPrice(pb.SetPriceRequest(price=price), None)).price
    with as_caller(MEMBER):
        prices = (await servicer.ListPrices(pb.ListPricesRequest(), None)).prices
    assert made.version not in {"", CHAT.version}
    assert [price.price_key for price in prices] == ["local/chat", "minilm/embed"]
    assert prices[0] == made


@pytest.mark.parametrize("missing", ["input_per_million", "output_per_million"])
async def test_a_price_needs_both_amounts_because_only_an_explicit_zero_is_zero(
    servicer: MeteringServicer, missing: str
) -> None:
    amounts = {"input_per_million": common.Money(), "output_per_million": common.Money()}
    del amounts[missing]
    price = pb.Price(price_key="a/b", **amounts)  # type: ignore[arg-type]
    with as_caller(ADMIN), pytest.raises(InvalidRequest) as refused:
        await servicer.SetPrice(pb.SetPriceRequest(price=price), None)
    assert refused.value.param == f"price.{missing}"


async def test_only_an_admin_changes_budgets_and_prices(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER):
        with pytest.raises(PermissionDenied):
            await servicer.SetBudget(pb.SetBudgetRequest(tenant_id="ten_a"), None)
        with pytest.raises(PermissionDenied):
            await servicer.SetPrice(pb.SetPriceRequest(), None)
