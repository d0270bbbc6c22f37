"""Money is a whole number of billionths of a US dollar. No float ever touches it."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

NanoUsd = NewType("NanoUsd", int)

ZERO = NanoUsd(0)

NANO_USD_PER_USD = 1_000_000_000
MAX_NANO_USD = NanoUsd(2**63 - 1)
"""What a bigint column and an int64 field can hold: nine billion dollars."""

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens."""
MAX_TOKENS = 1_000_000_000
MAX_PRICE = NanoUsd(10**15)
"""A million dollars per million tokens. No cost of a call can overflow: 2 · 10⁹ · 10¹⁵ ÷ 10⁶ < 2⁶³."""

INPUT_PRICES = "input_per_million_nano_usd"
"""A detail of INSUFFICIENT_QUOTA: the input prices of the bounds that were not reserved, in their order, by commas."""

DISCOUNT_MARK = "~"
"""Between the version of a price and what was taken off it: `prc_1~50` is `prc_1` less 50 %."""

# No exponents: the amount they hide may be too large to write down, or too small to be anything but zero.
_USD = re.compile(r"(?P<whole>[0-9]{1,32})(?:\.(?P<places>[0-9]{1,9}))?")
_DISCOUNTED = re.compile(rf"(?P<version>[^{DISCOUNT_MARK}]+){DISCOUNT_MARK}(?P<percent>[1-9][0-9]?|100)", re.ASCII)


class Price(NamedTuple):
    """A row of the price book: what one model costs, per million tokens."""

    key: str
    """ "<upstream>/<model>"."""
    version: str
    """Names the row; stamped on every ledger entry made with it."""
    input_per_million: NanoUsd
    output_per_million: NanoUsd


def cost(input_tokens: int, output_tokens: int, price: Price) -> NanoUsd:
    """Price one provider call: the exact amount, rounded up once to a whole nano-dollar, so no used token is free."""
    exact = input_tokens * price.input_per_million + output_tokens * price.output_per_million
    return NanoUsd(-(-exact // TOKENS_PER_PRICE))


def discount(price: Price, percent: int) -> Price:
    """Take `percent`, 0 to 100, off a price, and round up. The version names both."""
    if not percent:
        return price
    amounts = (_less(price.input_per_million, percent), _less(price.output_per_million, percent))
    return Price(price.key, f"{price.version}{DISCOUNT_MARK}{percent}", *amounts)


def split_version(version: str) -> tuple[str, int]:
    """Return the version in the price book, and the percentage that is taken off its price."""
    match = _DISCOUNTED.fullmatch(version)
    return (match["version"], int(match["percent"])) if match else (version, 0)


def _less(amount: NanoUsd, percent: int) -> NanoUsd:
    return NanoUsd(-(-amount * (100 - percent) // 100))


def nano_usd_to_usd(amount: NanoUsd) -> str:
    """Write an amount as an exact decimal with at most nine places: 12_300 is "0.0000123", 0 is "0"."""
    dollars, rest = divmod(abs(amount), NANO_USD_PER_USD)
    text = f"{dollars}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text


def usd_to_nano_usd(text: str) -> NanoUsd:
    """Read an exact decimal such as "12.50". Raises ValueError, with a sentence, for all other text."""
    match = _USD.fullmatch(text)
    if match is None:
        raise ValueError("must be a decimal amount of US dollars with at most 9 places, like 12.50")
    amount = int(match["whole"]) * NANO_USD_PER_USD + int((match["places"] or "").ljust(9, "0"))
    if amount > MAX_NANO_USD:
        raise ValueError(f"must be between 0 and {nano_usd_to_usd(MAX_NANO_USD)}")
    return NanoUsd(amount)
