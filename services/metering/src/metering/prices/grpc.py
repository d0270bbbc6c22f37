"""ListPrices, ListPriceVersions and SetPrice."""

from dataclasses import dataclass

from argosy.metering.v1 import metering_pb2
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.protos import proto_to_class_prices, proto_to_nano_usd

from metering.prices.model import PriceCache, PriceEdit
from metering.prices.protos import price_to_proto, version_to_proto
from metering.prices.set_price import PriceChangePublisher, set_price

DEFAULT_VERSIONS, MAX_VERSIONS = 20, 100


@dataclass(frozen=True, slots=True)
class PriceHandler:
    prices: PriceCache
    publisher: PriceChangePublisher | None

    async def list(self, principal: Principal) -> metering_pb2.ListPricesResponse:
        rows = await self.prices.current(principal.tenant_id)
        return metering_pb2.ListPricesResponse(prices=[price_to_proto(row) for row in rows])

    async def versions(self, request: metering_pb2.ListPriceVersionsRequest) -> metering_pb2.ListPriceVersionsResponse:
        limit = request.limit or DEFAULT_VERSIONS
        if not 1 <= limit <= MAX_VERSIONS:
            raise InvalidRequest(f"the limit is from 1 to {MAX_VERSIONS}", param="limit")
        found = await self.prices.versions(request.price_key, limit + 1, request.before_version)
        return metering_pb2.ListPriceVersionsResponse(
            versions=map(version_to_proto, found[:limit]), has_more=len(found) > limit
        )

    async def set(self, request: metering_pb2.SetPriceRequest, principal: Principal) -> metering_pb2.SetPriceResponse:
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
            edit=PriceEdit(principal.user_id or principal.key_id or principal.tenant_id, request.reason),
            classes=proto_to_class_prices(price.class_prices) if price.HasField("class_prices") else None,
        )
        return metering_pb2.SetPriceResponse(price=price_to_proto(row))
