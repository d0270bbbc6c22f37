"""The price book: effective-dated rows that never change. A model without a row is refused; it is never free."""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from chassis.errors import ArgosyError, InvalidRequest, Kind
from values.money import NanoUsd, Price

ALL_TENANTS = "*"
"""Tenant of a price that applies to every tenant without a price of its own."""

MAX_PRICE_KEY_CHARACTERS = 256
MAX_DISCOUNT_PERCENT = 99
"""A call is never free: its cost would not show that it was made."""
DISCOUNT_MARK = "~"
_DISCOUNTED = re.compile(r"(?P<version>[^~]+)~(?P<percent>[1-9][0-9]?)", re.ASCII)


class UnpricedModel(ArgosyError):
    """The model has no price, so the cost of a call is unknown: it is refused before it is made."""

    kind, reason = Kind.INVALID, "UNPRICED_MODEL"


class UnknownPriceVersion(ArgosyError, public=False):
    """A usage event names a price version that does not exist, or that is of another model or tenant."""

    kind, reason = Kind.INTERNAL, "UNKNOWN_PRICE_VERSION"


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price, from when on it is in force, and for whom."""

    price: Price
    effective_at: datetime
    tenant_id: str = ALL_TENANTS

    def applies_to(self, tenant_id: str) -> bool:
        return self.tenant_id in (ALL_TENANTS, tenant_id)


def discounted(row: PriceRow, percent: int) -> PriceRow:
    """Take `percent` off a price, and round up. Its version names both: `prc_1~50` is `prc_1` less 50 %."""
    if not percent:
        return row
    price = row.price
    version = f"{price.version}{DISCOUNT_MARK}{percent}"
    amounts = (_less(price.input_per_million, percent), _less(price.output_per_million, percent))
    return replace(row, price=Price(price.key, version, *amounts))


def split_version(version: str) -> tuple[str, int]:
    """Return the version in the price book, and the percentage that is taken off its price."""
    match = _DISCOUNTED.fullmatch(version)
    return (match["version"], int(match["percent"])) if match else (version, 0)


def _less(amount: NanoUsd, percent: int) -> NanoUsd:
    return NanoUsd(-(-amount * (100 - percent) // 100))


def validate_price_key(price_key: str, param: str) -> None:
    """Raise `InvalidRequest` unless it reads `<upstream>/<model>`."""
    upstream, slash, model = price_key.partition("/")
    printable = price_key.isprintable() and len(price_key) <= MAX_PRICE_KEY_CHARACTERS
    if not (upstream and slash and model and printable):
        raise InvalidRequest("a price key reads <upstream>/<model>", param=param)
