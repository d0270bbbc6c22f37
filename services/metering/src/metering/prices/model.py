"""The price book: effective-dated rows that never change. A model without a row is refused; it is never free.

Every replica reads prices through its `PriceCache`.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest, Kind
from values.money import ClassPrices, NanoUsd, Price, discount, split_version

ALL_TENANTS = "*"
"""Tenant of a price that applies to every tenant without a price of its own."""

MAX_PRICE_KEY_CHARACTERS = 256
MAX_DISCOUNT_PERCENT = 99
"""Of a reservation. A call is never free: its cost would not show that it was made."""

# A missing key may mean that another replica has just added its price: load again, but not at every miss.
RELOAD_ON_MISS = timedelta(seconds=1)
# Rows never change, so they are kept by version until there are too many of them.
MAX_CACHED_VERSIONS = 10_000


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


@dataclass(frozen=True, slots=True)
class PriceEdit:
    """Who puts a price in force, and why."""

    author: str = ""
    reason: str = ""


NO_EDIT = PriceEdit()


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """A price that was put in force, and by whom."""

    row: PriceRow
    edit: PriceEdit


def discounted(row: PriceRow, percent: int) -> PriceRow:
    """Take `percent` off a price, and round up. Its version names both: `prc_1~50` is `prc_1` less 50 %."""
    return replace(row, price=discount(row.price, percent)) if percent else row


def validate_price_key(price_key: str, param: str) -> None:
    """Raise `InvalidRequest` unless it reads `<upstream>/<model>`."""
    upstream, slash, model = price_key.partition("/")
    printable = price_key.isprintable() and len(price_key) <= MAX_PRICE_KEY_CHARACTERS
    if not (upstream and slash and model and printable):
        raise InvalidRequest("a price key reads <upstream>/<model>", param=param)


class PriceBook(Protocol):
    async def in_force(self) -> Sequence[PriceRow]:
        """Read the newest effective row of each (tenant, price key)."""

    async def by_version(self, versions: Collection[str]) -> Sequence[PriceRow]:
        """Read rows by version, in force or not; a version that does not exist is left out."""

    async def add(
        self,
        price_key: str,
        input_per_million: NanoUsd,
        output_per_million: NanoUsd,
        edit: PriceEdit = NO_EDIT,
        classes: ClassPrices | None = None,
    ) -> PriceRow:
        """Put a new price for all tenants in force now. Earlier rows stay as they are."""

    async def versions(self, price_key: str, limit: int, before_version: str) -> Sequence[PriceVersion]:
        """Read the prices for all tenants that a key has had, the newest first; only those before a version, if any."""


class PriceCache:
    """The price book as of at most `ttl` ago, for all tenants; concurrent callers share one load.

    A reservation may use a price that was in force within the last `ttl`; it keeps the version, so the call is billed
    at that price.
    """

    def __init__(self, book: PriceBook, clock: Clock, ttl: timedelta) -> None:
        self._book = book
        self._clock = clock
        self._ttl = ttl
        self._loading = asyncio.Lock()
        self._loaded_at: float | None = None
        self._invalidations = 0
        self._in_force: Mapping[tuple[str, str], PriceRow] = {}
        self._by_version: dict[str, PriceRow] = {}

    async def find(self, tenant_id: str, price_keys: Iterable[str]) -> list[PriceRow]:
        """Find the price of each key for this tenant, in the order of the keys. Raises `UnpricedModel`."""
        await self._load(self._ttl)
        found = []
        for key in price_keys:
            row = self._look_up(tenant_id, key)
            if row is None:
                await self._load(RELOAD_ON_MISS)
                row = self._look_up(tenant_id, key)
            if row is None:
                raise UnpricedModel(f"{key} has no price", param="model")
            found.append(row)
        return found

    async def current(self, tenant_id: str) -> list[PriceRow]:
        """List the prices that this tenant pays now, sorted by price key."""
        await self._load(self._ttl)
        keys = sorted({key for owner, key in self._in_force if owner in (ALL_TENANTS, tenant_id)})
        return [row for key in keys if (row := self._look_up(tenant_id, key)) is not None]

    async def by_version(self, versions: Collection[str]) -> Mapping[str, PriceRow]:
        """Return rows by version, in force or not, discounted or not; a version that does not exist is left out."""
        parts = {version: split_version(version) for version in versions}
        rows = await self._read_versions({version for version, _ in parts.values()})
        return {
            version: discounted(rows[known], percent) for version, (known, percent) in parts.items() if known in rows
        }

    async def _read_versions(self, versions: Collection[str]) -> Mapping[str, PriceRow]:
        # Copied before the read: meanwhile another call may clear the cache, and without its price no call is billed.
        known = {version: self._by_version[version] for version in versions if version in self._by_version}
        missing = set(versions) - known.keys()
        if missing:
            if len(self._by_version) > MAX_CACHED_VERSIONS:
                self._by_version.clear()
            read = {row.price.version: row for row in await self._book.by_version(missing)}
            self._by_version.update(read)
            known.update(read)
        return known

    async def add(
        self,
        price_key: str,
        input_per_million: NanoUsd,
        output_per_million: NanoUsd,
        edit: PriceEdit = NO_EDIT,
        classes: ClassPrices | None = None,
    ) -> PriceRow:
        """Add a price for all tenants to the book; it is in force here at once."""
        row = await self._book.add(price_key, input_per_million, output_per_million, edit, classes)
        self.invalidate()
        return row

    async def versions(self, price_key: str, limit: int, before_version: str) -> Sequence[PriceVersion]:
        """Return the prices that a key has had, the newest first."""
        return await self._book.versions(price_key, limit, before_version)

    def invalidate(self) -> None:
        """Load the book again before the next call returns; a change of one price invalidates all of them."""
        self._loaded_at = None
        self._invalidations += 1

    def _look_up(self, tenant_id: str, price_key: str) -> PriceRow | None:
        return self._in_force.get((tenant_id, price_key)) or self._in_force.get((ALL_TENANTS, price_key))

    async def _load(self, max_age: timedelta) -> None:
        if self._is_fresh(max_age):
            return
        async with self._loading:
            if self._is_fresh(max_age):
                return
            started, invalidations = self._clock.monotonic(), self._invalidations
            rows = await self._book.in_force()
            self._in_force = {(row.tenant_id, row.price.key): row for row in rows}
            # Rows invalidated during the read may be old: they serve callers that waited for the read, no later ones.
            self._loaded_at = started if invalidations == self._invalidations else None

    def _is_fresh(self, max_age: timedelta) -> bool:
        return self._loaded_at is not None and self._clock.monotonic() - self._loaded_at < max_age.total_seconds()
