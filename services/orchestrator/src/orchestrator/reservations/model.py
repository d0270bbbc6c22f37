"""What is reserved, and what metering granted."""

from typing import NamedTuple

from values.money import NanoUsd, Price


class TokenBound(NamedTuple):
    """The most tokens that one candidate can use."""

    price_key: str
    input_tokens: int
    output_tokens: int


class Reservation(NamedTuple):
    """Money held for a request. `prices` are those of its bounds, in the same order."""

    held: NanoUsd
    prices: tuple[Price, ...]
    soft_limit_passed: bool = False
