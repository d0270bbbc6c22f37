import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest, PermissionDenied
from chassis.tenancy import as_caller
from metering.grpc import MeteringServicer

from services.metering.tests.servicer import ADMIN, CHAT, MEMBER


async def test_an_admin_puts_a_price_in_force_and_every_tenant_sees_it(servicer: MeteringServicer) -> None:
    price = metering_pb2.Price(
        price_key="local/chat",
        input_per_million=common_pb2.Money(nano_usd=0),
        output_per_million=common_pb2.Money(nano_usd=9),
    )
    with as_caller(ADMIN):
        made = (await servicer.SetPrice(metering_pb2.SetPriceRequest(price=price), None)).price
    with as_caller(MEMBER):
        prices = (await servicer.ListPrices(metering_pb2.ListPricesRequest(), None)).prices
    assert made.version not in {"", CHAT.price.version}
    assert [price.price_key for price in prices] == ["local/chat", "minilm/embed"]
    assert prices[0] == made


@pytest.mark.parametrize("missing", ["input_per_million", "output_per_million"])
async def test_a_price_needs_both_amounts_because_only_an_explicit_zero_is_zero(
    servicer: MeteringServicer, missing: str
) -> None:
    amounts = {"input_per_million": common_pb2.Money(), "output_per_million": common_pb2.Money()}
    del amounts[missing]
    price = metering_pb2.Price(price_key="a/b", **amounts)  # type: ignore[arg-type]
    with as_caller(ADMIN), pytest.raises(InvalidRequest) as refused:
        await servicer.SetPrice(metering_pb2.SetPriceRequest(price=price), None)
    assert refused.value.param == f"price.{missing}"


async def test_the_prices_of_a_key_are_listed_with_who_and_why_and_can_be_paged(servicer: MeteringServicer) -> None:
    made = []
    with as_caller(ADMIN):
        for amount in (1, 2, 3):
            money = common_pb2.Money(nano_usd=amount)
            price = metering_pb2.Price(price_key="a/b", input_per_million=money, output_per_million=money)
            request = metering_pb2.SetPriceRequest(price=price, reason=f"reason {amount}")
            made.append((await servicer.SetPrice(request, None)).price)
        first = await servicer.ListPriceVersions(metering_pb2.ListPriceVersionsRequest(price_key="a/b", limit=2), None)
        rest = await servicer.ListPriceVersions(
            metering_pb2.ListPriceVersionsRequest(price_key="a/b", before_version=first.versions[1].price.version), None
        )
        none = await servicer.ListPriceVersions(metering_pb2.ListPriceVersionsRequest(price_key="c/d"), None)

    assert [one.price for one in (*first.versions, *rest.versions)] == made[::-1]
    assert [one.reason for one in first.versions] == ["reason 3", "reason 2"]
    assert all(one.author for one in first.versions)
    assert (first.has_more, rest.has_more, list(none.versions)) == (True, False, [])


@pytest.mark.parametrize("reason", ["two\nlines", "a" * 501])
async def test_a_reason_is_one_short_line(servicer: MeteringServicer, reason: str) -> None:
    money = common_pb2.Money(nano_usd=1)
    price = metering_pb2.Price(price_key="a/b", input_per_million=money, output_per_million=money)
    with as_caller(ADMIN), pytest.raises(InvalidRequest) as refused:
        await servicer.SetPrice(metering_pb2.SetPriceRequest(price=price, reason=reason), None)
    assert refused.value.param == "reason"


async def test_members_do_not_see_the_history_of_prices(servicer: MeteringServicer) -> None:
    with as_caller(MEMBER), pytest.raises(PermissionDenied):
        await servicer.ListPriceVersions(metering_pb2.ListPriceVersionsRequest(price_key="a/b"), None)
