"""What `Accounts` promises: by the fake, and over gRPC through the adapter."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
from argosy.metering.v1.metering_pb2_grpc import add_MeteringServiceServicer_to_server
from chassis.errors import ArgosyError
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from gateway.adapters.metering import GrpcAccounts
from gateway.domain.accounts import Accounts
from gateway.domain.money import NanoUsd

from services.gateway.tests.fakes.accounts import MADE, FakeAccounts, an_account
from services.gateway.tests.fakes.metering import Metering

SERVICE = "argosy.metering.v1.MeteringService"


@pytest.fixture
def books() -> FakeAccounts:
    """What there is, wherever it is asked from."""
    return FakeAccounts()


@pytest.fixture(params=["fake", "grpc"])
async def accounts(request: pytest.FixtureRequest, books: FakeAccounts) -> AsyncIterator[Accounts]:
    if request.param == "fake":
        yield books
        return
    async with serving((add_MeteringServiceServicer_to_server, Metering(books), SERVICE)) as channel:
        yield GrpcAccounts(channel)


@pytest.fixture(autouse=True)
def demo() -> Iterator[None]:
    with as_caller(a_caller(a_principal("ten_demo"))):
        yield


async def test_usage_is_summed_up_over_a_span(accounts: Accounts, books: FakeAccounts) -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    whole, daily = await accounts.usage(None, None, by_day=False), await accounts.usage(start, end, by_day=True)

    assert books.spans == [(None, None, False), (start, end, True)]
    assert (whole.rows[0].day, daily.rows[0].day) == (None, MADE)
    assert (whole.rows[0].calls, whole.rows[0].input_tokens, whole.rows[0].output_tokens) == (2, 10, 20)
    assert whole.total == whole.rows[0].cost == 4_500


@pytest.mark.parametrize("settled", [True, False])
async def test_the_account_of_a_request_is_whole(accounts: Accounts, books: FakeAccounts, settled: bool) -> None:
    books.requests["ten_demo", "req_1"] = told = an_account("req_1", settled=settled)

    read = await accounts.request("req_1")

    assert read == told
    assert read.cost == (700 if settled else None)


async def test_another_tenants_request_is_not_found(accounts: Accounts, books: FakeAccounts) -> None:
    books.requests["ten_other", "req_1"] = an_account("req_1")

    with pytest.raises(ArgosyError) as caught:
        await accounts.request("req_1")
    assert caught.value.reason == "REQUEST_NOT_FOUND"


async def test_a_budget_is_read_by_its_tenant_and_set_by_an_admin(accounts: Accounts) -> None:
    with pytest.raises(ArgosyError) as caught:
        await accounts.set_budget("ten_demo", NanoUsd(7))
    assert caught.value.reason == "PERMISSION_DENIED"

    with as_caller(a_caller(a_principal("ten_platform", roles={"admin"}))):
        assert (await accounts.set_budget("ten_demo", NanoUsd(7))).cap == 7
    budget = await accounts.budget()
    assert (budget.cap, budget.spent, budget.held) == (7, 25, 0)


async def test_prices_are_set_by_an_admin_and_an_explicit_zero_is_a_price(accounts: Accounts) -> None:
    with pytest.raises(ArgosyError) as caught:
        await accounts.set_price("local/m", NanoUsd(1), NanoUsd(2))
    assert caught.value.reason == "PERMISSION_DENIED"

    with as_caller(a_caller(a_principal("ten_platform", roles={"admin"}))):
        price = await accounts.set_price("local/m", NanoUsd(50), NanoUsd(0))
    assert (price.price_key, price.input_per_million, price.output_per_million) == ("local/m", 50, 0)
    assert price.version
    assert list(await accounts.prices()) == [price]
