"""What prices need from the price book and from the other replicas."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from values.money import NanoUsd

from metering.prices.model import PriceRow


class PriceBook(Protocol):
    async def in_force(self) -> Sequence[PriceRow]:
        """Read the newest effective row of each (tenant, price key)."""

    async def by_version(self, versions: Collection[str]) -> Sequence[PriceRow]:
        """Read rows by version, in force or not; a version that does not exist is left out."""

    async def add(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> PriceRow:
        """Put a new price for all tenants in force now. Earlier rows stay as they are."""


class PriceChangePublisher(Protocol):
    async def publish(self, price_key: str) -> None:
        """Make connected replicas invalidate their caches. Never fails: replicas that miss it reload after the TTL."""
