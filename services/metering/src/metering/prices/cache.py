"""The price book: effective-dated rows that never change. What has no row has no price, and is refused, never free."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest, Kind

from metering.domain.money import MAX_PRICE, NanoUsd, cost_of

EVERYBODY = "*"
"""The tenant id of a price that holds for every tenant without one of its own."""

MAX_PRICE_KEY_CHARACTERS = 256
# A miss may mean that another replica has just added the price; ask the book again, but not on every miss.
RELOAD_ON_MISS = timedelta(seconds=1)
# Recorded versions never change, so they are kept until there are too many of them.
MAX_RECORDED = 10_000


class UnpricedModel(ArgosyError):
    """The model has no price, so nobody could say what the call costs: it is refused before it is made."""

    kind, reason = Kind.INVALID, "UNPRICED_MODEL"


class UnknownPriceVersion(ArgosyError):
    """A usage event names a row of the price book that does not exist, or is not this tenant's or this model's."""

    kind, reason = Kind.INTERNAL, "UNKNOWN_PRICE_VERSION"


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the price book, in nano-USD per million tokens."""

    price_key: str
    version: str
    input_per_million: NanoUsd
    output_per_million: NanoUsd
    effective_at: datetime
    tenant_id: str = EVERYBODY

    def cost(self, input_tokens: int, output_tokens: int) -> NanoUsd:
        """Price a call, rounded up."""
        return cost_of(input_tokens, output_tokens, self.input_per_million, self.output_per_million)

    def holds_for(self, tenant_id: str) -> bool:
        """Say whether this tenant may be billed by it."""
        return self.tenant_id in (EVERYBODY, tenant_id)


class PriceBook(Protocol):
    """Where prices are kept."""

    async def in_force(self) -> Sequence[Price]:
        """Read the newest effective row of each (tenant, price key)."""

    async def recorded(self, versions: Collection[str]) -> Sequence[Price]:
        """Read rows by version, in force or not; what does not exist is left out."""

    async def add(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        """Put a new price for everybody in force now. Rows in force before stay what they are."""


class PriceNews(Protocol):
    """How the replicas hear of each other's prices."""

    async def announce(self, price_key: str) -> None:
        """Tell every replica that listens of the key's new price. Never fails: the others follow within the TTL."""


class NoNews:
    """`PriceNews` where nobody listens: other replicas follow within the TTL."""

    async def announce(self, price_key: str) -> None:
        """Tell nobody."""


class Prices:
    """The price book as this process knows it: at most `ttl` old, shared by all tenants, one load at a time.

    A price that was in force within the last `ttl` may still be agreed on; its version is stamped on the reservation,
    so the bill is what was agreed.
    """

    def __init__(self, book: PriceBook, clock: Clock, ttl: timedelta) -> None:
        self._book = book
        self._clock = clock
        self._ttl = ttl
        self._loading = asyncio.Lock()
        self._loaded_at: float | None = None
        self._forgotten = 0
        self._in_force: Mapping[tuple[str, str], Price] = {}
        self._recorded: dict[str, Price] = {}

    async def find(self, tenant_id: str, price_keys: Iterable[str]) -> list[Price]:
        """Return what each key costs this tenant now, in their order. Raises `UnpricedModel`."""
        await self._load(self._ttl)
        found = []
        for key in price_keys:
            price = self._look_up(tenant_id, key)
            if price is None:
                await self._load(RELOAD_ON_MISS)
                price = self._look_up(tenant_id, key)
            if price is None:
                raise UnpricedModel(f"{key} has no price", param="model")
            found.append(price)
        return found

    async def current(self, tenant_id: str) -> list[Price]:
        """Return what this tenant pays now, by price key."""
        await self._load(self._ttl)
        keys = sorted({key for owner, key in self._in_force if owner in (EVERYBODY, tenant_id)})
        return [price for key in keys if (price := self._look_up(tenant_id, key)) is not None]

    async def recorded(self, versions: Collection[str]) -> Mapping[str, Price]:
        """Return rows by version, in force or not; what does not exist is left out."""
        # Kept aside: another call may forget them while this one reads, and a bill without its price is never settled.
        known = {version: self._recorded[version] for version in versions if version in self._recorded}
        missing = set(versions) - known.keys()
        if missing:
            if len(self._recorded) > MAX_RECORDED:
                self._recorded.clear()
            read = {price.version: price for price in await self._book.recorded(missing)}
            self._recorded.update(read)
            known.update(read)
        return known

    async def put(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        """Put a new price for everybody in force; it holds here at once. Raises `InvalidRequest`."""
        check_price_key(price_key, "price.price_key")
        for name, amount in (("input", input_per_million), ("output", output_per_million)):
            if not 0 <= amount <= MAX_PRICE:
                raise InvalidRequest(
                    f"{name} price must be between 0 and {MAX_PRICE} nano-USD", param=f"price.{name}_per_million"
                )
        price = await self._book.add(price_key, input_per_million, output_per_million)
        self.forget()
        return price

    def forget(self) -> None:
        """Read the book again before the next answer. It is known as a whole, so one old price makes all of it old."""
        self._loaded_at = None
        self._forgotten += 1

    def _look_up(self, tenant_id: str, price_key: str) -> Price | None:
        return self._in_force.get((tenant_id, price_key)) or self._in_force.get((EVERYBODY, price_key))

    async def _load(self, oldest: timedelta) -> None:
        if self._is_fresh(oldest):
            return
        async with self._loading:
            if self._is_fresh(oldest):
                return
            began, forgotten = self._clock.monotonic(), self._forgotten
            rows = await self._book.in_force()
            self._in_force = {(price.tenant_id, price.price_key): price for price in rows}
            # What was told to be forgotten while it was read may be old: it serves who asked before, nobody later.
            self._loaded_at = began if forgotten == self._forgotten else None

    def _is_fresh(self, oldest: timedelta) -> bool:
        return self._loaded_at is not None and self._clock.monotonic() - self._loaded_at < oldest.total_seconds()


async def set_price(
    price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd, *, prices: Prices, news: PriceNews
) -> Price:
    """Put a new price for everybody in force, and tell the other replicas. Raises `InvalidRequest`."""
    price = await prices.put(price_key, input_per_million, output_per_million)
    await news.announce(price.price_key)
    return price


def check_price_key(price_key: str, param: str) -> None:
    """Raise `InvalidRequest` unless it reads `<upstream>/<model>`."""
    upstream, slash, model = price_key.partition("/")
    printable = price_key.isprintable() and len(price_key) <= MAX_PRICE_KEY_CHARACTERS
    if not (upstream and slash and model and printable):
        raise InvalidRequest("a price key reads <upstream>/<model>", param=param)
