"""ListPrices and SetPrice."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.protos import proto_to_nano_usd

from metering.prices.model import PriceCache
from metering.prices.protos import price_to_proto
from metering.prices.set_price import PriceChangePublisher, set_price


@dataclass(frozen=True, slots=True)
class PriceHandler:
    prices: PriceCache
    publisher: PriceChangePublisher | None

    async def list(self, principal: Principal) -> metering_pb2.ListPricesResponse:
        rows = await self.prices.current(principal.tenant_id)
        return metering_pb2.ListPricesResponse(prices=[price_to_proto(row) for row in rows])

    async def set(self, request: metering_pb2.SetPriceRequest) -> metering_pb2.SetPriceResponse:
        price = request.price
        for field in ("input_per_million", "output_per_million"):
            if not price.HasField(field):  # only an explicit zero is a price of zero
                raise InvalidRequest(f"{field} is missing", param=f"price.{field}")
        row = await set_price(
            price.price_key,
            proto_to_nano_usd(price.input_per_million),
            proto_to_nano_usd(price.output_per_million),
            prices=self.prices,
            publisher=self.publisher,
        )
        return metering_pb2.SetPriceResponse(price=price_to_proto(row))
