"""What tokens cost, to the nano-dollar."""

from typing import NamedTuple, NewType

NanoUsd = NewType("NanoUsd", int)

PER = 1_000_000


class Price(NamedTuple):
    """A row of the price book, as agreed when the money was set aside."""

    key: str
    """ "<upstream>/<model>"."""
    version: str
    input_per_million: NanoUsd
    output_per_million: NanoUsd

    def cost(self, input_tokens: int, output_tokens: int) -> NanoUsd:
        """Return what one provider call costs: the exact amount, rounded up once to a whole nano-dollar."""
        exact = input_tokens * self.input_per_million + output_tokens * self.output_per_million
        return NanoUsd(-(-exact // PER))
