"""The price book in metering, over gRPC."""

from typing import get_args

from argosy.metering.v1 import metering_pb2 as pb
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceStub
from chassis.grpc import Channel
from values.money import NO_CLASS_PRICES, ClassPrices, NanoUsd, nano_usd_to_usd
from values.protos import (
    class_prices_to_proto,
    nano_usd_to_proto,
    proto_to_class_prices,
    proto_to_nano_usd,
    proto_to_timestamp,
)

from gateway.prices.schemas import PricedClass, PriceRead, PriceVersion, PriceVersionList
from gateway.web.schemas import ListResponse, unix_seconds

CLASSES: tuple[PricedClass, ...] = get_args(PricedClass)


class PricesClient:
    """Acts on behalf of the current caller. All calls raise metering's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = MeteringServiceStub(channel)

    async def list(self) -> ListResponse[PriceRead]:
        """Prices in force, by price key."""
        response = await self._stub.ListPrices(pb.ListPricesRequest())
        return ListResponse.of(map(proto_to_price, response.prices))

    async def versions(self, price_key: str, limit: int, before: str) -> PriceVersionList:
        """Prices that a key has had, the newest first."""
        request = pb.ListPriceVersionsRequest(price_key=price_key, limit=limit, before_version=before)
        response = await self._stub.ListPriceVersions(request)
        older = [*response.versions[1:], *([None] if response.versions else [])]
        return PriceVersionList(
            data=[proto_to_version(one, before) for one, before in zip(response.versions, older, strict=True)],
            has_more=response.has_more,
        )

    async def set(
        self,
        price_key: str,
        input_per_million: NanoUsd,
        output_per_million: NanoUsd,
        reason: str = "",
        classes: ClassPrices | None = None,
    ) -> PriceRead:
        """Put a price in force. Raises PERMISSION_DENIED."""
        price = pb.Price(
            price_key=price_key,
            input_per_million=nano_usd_to_proto(input_per_million),
            output_per_million=nano_usd_to_proto(output_per_million),
        )
        if classes is not None:
            class_prices_to_proto(classes, price.class_prices)
        response = await self._stub.SetPrice(pb.SetPriceRequest(price=price, reason=reason))
        return proto_to_price(response.price)


def proto_to_price(message: pb.Price) -> PriceRead:
    input_per_million = proto_to_nano_usd(message.input_per_million)
    output_per_million = proto_to_nano_usd(message.output_per_million)
    prices = proto_to_class_prices(message.class_prices) or NO_CLASS_PRICES
    classes: dict[PricedClass, NanoUsd] = {
        name: amount for name in CLASSES if (amount := getattr(prices, name)) is not None
    }
    return PriceRead(
        id=message.version,
        price_key=message.price_key,
        input_per_million_nano_usd=input_per_million,
        output_per_million_nano_usd=output_per_million,
        input_per_million_usd=nano_usd_to_usd(input_per_million),
        output_per_million_usd=nano_usd_to_usd(output_per_million),
        classes_per_million_nano_usd=dict(classes),
        classes_per_million_usd={name: nano_usd_to_usd(amount) for name, amount in classes.items()},
        effective_at=unix_seconds(proto_to_timestamp(message.effective_at)),
    )


def proto_to_version(message: pb.PriceVersion, before: pb.PriceVersion | None) -> PriceVersion:
    older = None if before is None else proto_to_price(before.price)
    return PriceVersion(
        **proto_to_price(message.price).model_dump(),
        author=message.author,
        reason=message.reason,
        before_input_per_million_nano_usd=older and older.input_per_million_nano_usd,
        before_output_per_million_nano_usd=older and older.output_per_million_nano_usd,
        before_classes_per_million_nano_usd=older and older.classes_per_million_nano_usd,
    )
