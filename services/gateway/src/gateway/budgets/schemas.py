"""Money as the edge shows it: exact decimals in US dollars, never a float."""

import re
from typing import NewType

from chassis.errors import InvalidRequest

NanoUsd = NewType("NanoUsd", int)

NANO_PER_USD = 1_000_000_000
LARGEST = NanoUsd(2**63 - 1)  # what an int64 on the wire can hold
# No exponents: the amount they hide may be too large to write down, or too small to be anything but zero.
AMOUNT = re.compile(r"(?P<whole>[0-9]{1,32})(?:\.(?P<places>[0-9]{1,9}))?")


def to_usd(amount: NanoUsd) -> str:
    """Write an amount as an exact decimal with at most nine places: 12_300 is "0.0000123", 0 is "0"."""
    whole, rest = divmod(abs(amount), NANO_PER_USD)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text


def from_usd(text: str, *, param: str) -> NanoUsd:
    """Read an amount. Raises InvalidRequest naming `param` when it is negative or not exact in nano-dollars."""
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"{param} must be a decimal amount of US dollars with at most 9 places, like 12.50.", param=param
        )
    amount = int(match["whole"]) * NANO_PER_USD + int((match["places"] or "").ljust(9, "0"))
    if amount > LARGEST:
        raise InvalidRequest(f"{param} must be between 0 and {to_usd(LARGEST)}.", param=param)
    return NanoUsd(amount)
