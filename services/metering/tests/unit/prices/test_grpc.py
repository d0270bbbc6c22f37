import pytest
from argosy.common.v1 import common_pb2
from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
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
