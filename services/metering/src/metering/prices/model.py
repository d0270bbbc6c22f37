"""The price book: effective-dated rows that never change. A model without a row is refused; it is never free."""

from dataclasses import dataclass
from datetime import datetime

from chassis.errors import ArgosyError, InvalidRequest, Kind
from values.money import Price

ALL_TENANTS = "*"
"""Tenant of a price that applies to every tenant without a price of its own."""

MAX_PRICE_KEY_CHARACTERS = 256


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


def validate_price_key(price_key: str, param: str) -> None:
    """Raise `InvalidRequest` unless it reads `<upstream>/<model>`."""
    upstream, slash, model = price_key.partition("/")
    printable = price_key.isprintable() and len(price_key) <= MAX_PRICE_KEY_CHARACTERS
    if not (upstream and slash and model and printable):
        raise InvalidRequest("a price key reads <upstream>/<model>", param=param)
