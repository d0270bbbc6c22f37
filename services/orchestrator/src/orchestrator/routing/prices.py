"""Prices of candidates as metering last told them, for the strategy `cheapest`. In memory, and never waited for."""

from collections.abc import Iterable

from values.money import Price

from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate

MAX_PRICES = 10_000


class LearnedPrices:
    """Every reservation is for all candidates of its plan and answers their prices, so one request teaches them all.

    A candidate without a known price is the cheapest: it comes first once, and is known then.
    """

    def __init__(self) -> None:
        self._prices: dict[str, Price] = {}

    def learn(self, prices: Iterable[Price]) -> None:
        if len(self._prices) > MAX_PRICES:
            self._prices.clear()
        for price in prices:
            self._prices[price.key] = price

    def cost(self, candidate: RouteCandidate, facts: RequestFacts) -> int:
        """Return the most that a request can cost there, in nano-dollars times a million tokens."""
        price = self._prices.get(candidate.price_key)
        if price is None:
            return 0
        output = facts.output_limit or candidate.max_output_tokens
        return facts.input_bytes * price.input_per_million + output * price.output_per_million
