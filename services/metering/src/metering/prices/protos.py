"""Prices as messages."""

from functools import lru_cache

from argosy.metering.v1 import metering_pb2
from values.protos import class_prices_to_proto, nano_usd_to_proto, timestamp_to_proto

from metering.prices.model import PriceRow, PriceVersion


# Every reservation returns prices, of which there are few. Callers must not change the message; setting it as a field
# of another message copies it.
@lru_cache(maxsize=1024)
def price_to_proto(row: PriceRow) -> metering_pb2.Price:
    message = metering_pb2.Price(
        price_key=row.price.key,
        version=row.price.version,
        input_per_million=nano_usd_to_proto(row.price.input_per_million),
        output_per_million=nano_usd_to_proto(row.price.output_per_million),
        effective_at=timestamp_to_proto(row.effective_at),
    )
    if row.price.classes is not None:
        class_prices_to_proto(row.price.classes, message.class_prices)
    return message


def version_to_proto(version: PriceVersion) -> metering_pb2.PriceVersion:
    price = price_to_proto(version.row)
    return metering_pb2.PriceVersion(price=price, author=version.edit.author, reason=version.edit.reason)
