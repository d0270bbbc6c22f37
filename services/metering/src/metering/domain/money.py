"""Money is a whole number of billionths of a US dollar. No float ever touches it."""

from __future__ import annotations

from typing import NewType

NanoUsd = NewType("NanoUsd", int)

NOTHING = NanoUsd(0)
MAX_NANO_USD = NanoUsd(2**63 - 1)
"""What a bigint column and an int64 field can hold: nine billion dollars."""

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens."""

MAX_TOKENS = 1_000_000_000
MAX_PRICE = NanoUsd(10**15)
"""A million dollars per million tokens. No cost of a call can overflow: 2 · 10⁹ · 10¹⁵ ÷ 10⁶ < 2⁶³."""


def cost_of(input_tokens: int, output_tokens: int, input_per_million: NanoUsd, output_per_million: NanoUsd) -> NanoUsd:
    """Price one call in nano-USD, rounded up to the next whole one: a used token is never free of charge."""
    exact = input_tokens * input_per_million + output_tokens * output_per_million
    return NanoUsd(-(-exact // TOKENS_PER_PRICE))
