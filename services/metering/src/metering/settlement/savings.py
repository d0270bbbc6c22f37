"""What a settled call saved: an answer of the cache beside its full price, a cheap candidate beside another one's."""

from values.money import ZERO, NanoUsd, cost
from values.usage import TokenUsage

from metering.settlement.model import Attempt, RightSized


def cache_saved(attempt: Attempt, usage: TokenUsage, paid: NanoUsd) -> NanoUsd:
    """Return what a cached answer would have cost beside what was paid for it."""
    if attempt.cache is None or attempt.full_price is None or usage.known is None:
        return ZERO
    return NanoUsd(max(0, cost(*usage.known, attempt.full_price, usage.details) - paid))


def right_sized(attempt: Attempt, usage: TokenUsage, paid: NanoUsd, payable: NanoUsd) -> RightSized | None:
    """Compare what was paid for a call of a cheap candidate with what would have been paid; None for other calls.

    The alternative would have been billed for the tokens of the answer, by its own prices, with one rounding, and as
    any call for `payable` at most. For a call whose answer the client did not get, nothing else would have been paid:
    the call that answered instead is in the books at its own price.
    """
    alternative = attempt.alternative
    if alternative is None:
        return None
    price, instead = alternative.price, ZERO
    if alternative.answered and usage.known is not None:
        instead = NanoUsd(min(cost(*usage.known, price, usage.details), payable))
    return RightSized(price.key, price.version, NanoUsd(instead - paid))
