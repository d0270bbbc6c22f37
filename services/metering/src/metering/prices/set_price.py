"""Put a new price in force."""

from typing import Protocol

from chassis.errors import InvalidRequest
from values.money import MAX_PRICE, ClassPrices, NanoUsd

from metering.prices.model import NO_EDIT, PriceCache, PriceEdit, PriceRow, validate_price_key

MAX_REASON_CHARACTERS = 500


class PriceChangePublisher(Protocol):
    async def publish(self, price_key: str) -> None:
        """Make connected replicas invalidate their caches. Never fails: replicas that miss it reload after the TTL."""


async def set_price(
    price_key: str,
    input_per_million: NanoUsd,
    output_per_million: NanoUsd,
    *,
    prices: PriceCache,
    publisher: PriceChangePublisher | None,
    edit: PriceEdit = NO_EDIT,
    classes: ClassPrices | None = None,
) -> PriceRow:
    """Put a new price for all tenants in force. Without a publisher the other replicas see it after the TTL.

    Raises `InvalidRequest`.
    """
    validate_price_key(price_key, "price.price_key")
    amounts = {"input_per_million": input_per_million, "output_per_million": output_per_million}
    if classes is not None:
        amounts |= {f"class_prices.{name}": one for name, one in classes._asdict().items() if one is not None}
    for param, amount in amounts.items():
        if not 0 <= amount <= MAX_PRICE:
            raise InvalidRequest(f"{param} must be between 0 and {MAX_PRICE} nano-USD", param=f"price.{param}")
    if len(edit.reason) > MAX_REASON_CHARACTERS or (edit.reason and not edit.reason.isprintable()):
        raise InvalidRequest(f"a reason is one line of at most {MAX_REASON_CHARACTERS} characters", param="reason")
    row = await prices.add(price_key, input_per_million, output_per_million, edit, classes)
    if publisher is not None:
        await publisher.publish(price_key)
    return row
