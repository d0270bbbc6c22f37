"""Prices, per million tokens."""

from typing import Annotated, Literal

from pydantic import Field
from values.money import MAX_PRICE

from gateway.web.schemas import Resource, StrictBody

NanoUsdPerMillion = Annotated[int, Field(strict=True, ge=0, le=MAX_PRICE)]


class PriceCreate(StrictBody):
    """A price from now on, in nano-USD per million tokens. Zero is a price; both fields are required."""

    price_key: Annotated[str, Field(max_length=256, pattern=r"^[^/\x00-\x20\x7f]+/[^\x00-\x20\x7f]+$")]
    input_per_million_nano_usd: NanoUsdPerMillion
    output_per_million_nano_usd: NanoUsdPerMillion


class PriceRead(Resource):
    """A price in force. Its id is its version in the price book."""

    object: Literal["price"] = "price"
    price_key: str
    input_per_million_nano_usd: int
    output_per_million_nano_usd: int
    input_per_million_usd: str
    output_per_million_usd: str
    effective_at: int
