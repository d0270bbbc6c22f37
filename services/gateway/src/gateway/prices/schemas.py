"""Prices, per million tokens."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from values.money import MAX_PRICE, ClassPrices, NanoUsd

from gateway.flags.schemas import Reason
from gateway.web.schemas import Id, Resource, StrictBody

PricedClass = Literal[
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "reasoning_output",
    "audio_output",
]
NanoUsdPerMillion = Annotated[int, Field(strict=True, ge=0, le=MAX_PRICE)]


PriceKey = Annotated[str, Field(max_length=256, pattern=r"^[^/\x00-\x20\x7f]+/[^\x00-\x20\x7f]+$")]


class PriceCreate(StrictBody):
    """A price from now on, in nano-USD per million tokens. Zero is a price; input and output are required."""

    price_key: PriceKey
    input_per_million_nano_usd: NanoUsdPerMillion
    output_per_million_nano_usd: NanoUsdPerMillion
    classes_per_million_nano_usd: dict[PricedClass, NanoUsdPerMillion] = Field(
        default_factory=dict,
        description="Classes of tokens with a price of their own. Without one, `cache_write_1h` has the price of "
        "`cache_write`, all others that are read that of input, and those that are written that of output.",
    )
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
    classes_per_million_nano_usd: dict[PricedClass, int] = Field(
        default_factory=dict, description="Only classes with a price of their own."
    )
    classes_per_million_usd: dict[PricedClass, str] = Field(default_factory=dict)
    effective_at: int


class PriceVersion(PriceRead):
    """A price that was put in force, by whom and why; and the one before, for comparison."""

    author: str
    reason: str
    before_input_per_million_nano_usd: int | None = Field(description="null: the first, or the page's last.")
    before_output_per_million_nano_usd: int | None
    before_classes_per_million_nano_usd: dict[PricedClass, int] | None = None


class PriceVersionList(BaseModel):
    """Prices of a key, the newest first."""

    object: Literal["list"] = "list"
    data: list[PriceVersion]
    has_more: bool


def class_prices(amounts: Mapping[PricedClass, int]) -> ClassPrices | None:
    """Return the prices of classes; None when none has its own."""
    return ClassPrices(**{name: NanoUsd(amount) for name, amount in amounts.items()}) if amounts else None
