"""What is reserved, and what metering granted."""

from typing import NamedTuple

from chassis.errors import ArgosyError
from chassis.tenancy import Principal
from values.money import INPUT_PRICES, NO_CLASS_ABSENT, NanoUsd, Price
from values.usage import AbsentClasses, CacheOutcome, TokenUsage

from orchestrator.usage.model import AttemptUsage


class TokenBound(NamedTuple):
    """The most tokens that one candidate can use."""

    price_key: str
    input_tokens: int
    output_tokens: int
    absent: AbsentClasses = NO_CLASS_ABSENT
    """Classes of tokens that it certainly does not use: nothing is held for their prices."""


class AttemptStart(NamedTuple):
    """A provider call after the first, which is about to be made."""

    request_id: str
    number: int
    bound: int
    """The place of its bound among those that were reserved."""
    ended: tuple[AttemptUsage, ...]
    """The attempts that ended since the reservation, or since the last start."""


class Reservation(NamedTuple):
    """Money held for a request. `prices` are those of its bounds, in the same order."""

    held: NanoUsd
    prices: tuple[Price, ...]
    soft_limit_passed: bool = False
    cheap: int = 0
    """How many of the first bounds are of cheap candidates, which an easy request tries before the others."""


class HitRequest(NamedTuple):
    """A request that gets an answer of the cache, for the exact price of what that consumed."""

    principal: Principal
    request_id: str
    price_key: str
    usage: TokenUsage
    """Both counts are known."""
    discount_percent: int
    outcome: CacheOutcome


class ReservedHit(NamedTuple):
    """The price of a cached answer is held. It is billed unless an event releases it."""

    price: Price
    soft_limit_passed: bool


def refused_input_prices(error: ArgosyError) -> tuple[NanoUsd, ...]:
    """Return the input prices per million tokens in metering's refusal, in the order of the bounds, or none."""
    try:
        return tuple(NanoUsd(int(price)) for price in error.details.get(INPUT_PRICES, "").split(",") if price)
    except ValueError:
        return ()
