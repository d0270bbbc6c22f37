"""Prices, per million tokens."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from values.money import MAX_PRICE

from gateway.flags.schemas import Reason
from gateway.web.schemas import Id, Resource, StrictBody

NanoUsdPerMillion = Annotated[int, Field(strict=True, ge=0, le=MAX_PRICE)]


PriceKey = Annotated[str, Field(max_length=256, pattern=r"^[^/\x00-\x20\x7f]+/[^\x00-\x20\x7f]+$")]


class PriceCreate(StrictBody):
    """A price from now on, in nano-USD per million tokens. Zero is a price; both fields are required."""

    price_key: PriceKey
    input_per_million_nano_usd: NanoUsdPerMillion
    output_per_million_nano_usd: NanoUsdPerMillion
    reason: str = Field("", max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$", description="Why; the history keeps it.")


class PriceRollback(StrictBody):
    """Which price to put in force again."""

    reason: Reason
    id: Id = Field(description="Of an earlier price of this key.")


class PriceRead(Resource):
    """A price in force. Its id is its version in the price book."""

    object: Literal["price"] = "price"
    price_key: str
    input_per_million_nano_usd: int
    output_per_million_nano_usd: int
    input_per_million_usd: str
    output_per_million_usd: str
    effective_at: int


class PriceVersion(PriceRead):
    """A price that was put in force, by whom and why; and the one before, for comparison."""

    author: str
    reason: str
    before_input_per_million_nano_usd: int | None = Field(description="null: the first, or the page's last.")
    before_output_per_million_nano_usd: int | None


class PriceVersionList(BaseModel):
    """Prices of a key, the newest first."""

    object: Literal["list"] = "list"
    data: list[PriceVersion]
    has_more: bool
