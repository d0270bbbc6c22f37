"""Money as the edge shows it: exact decimals in US dollars, never a float."""

from decimal import Decimal, InvalidOperation
from typing import NewType

from chassis.errors import InvalidRequest

NanoUsd = NewType("NanoUsd", int)

NANO_PER_USD = 1_000_000_000
LARGEST = NanoUsd(2**63 - 1)  # what an int64 on the wire can hold


def to_usd(amount: NanoUsd) -> str:
    """Write an amount as an exact decimal with at most nine places: 12_300 is "0.0000123", 0 is "0"."""
    whole, rest = divmod(abs(amount), NANO_PER_USD)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 else text


def from_usd(text: str, *, param: str) -> NanoUsd:
    """Read an amount. Raises InvalidRequest naming `param` when it is negative or not exact in nano-dollars."""
    try:
        scaled = Decimal(text).scaleb(9)
        if not scaled.is_finite() or scaled != scaled.to_integral_value():
            raise InvalidRequest(f"{param} must be a decimal amount of US dollars with at most 9 places.", param=param)
    except InvalidOperation:
        raise InvalidRequest(f"{param} must be a decimal amount of US dollars, like 12.50.", param=param) from None
    if not 0 <= scaled <= LARGEST:
        raise InvalidRequest(f"{param} must be between 0 and {to_usd(LARGEST)}.", param=param)
    return NanoUsd(int(scaled))
