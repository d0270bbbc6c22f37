"""The port of the settlement feature."""

from collections.abc import Sequence
from typing import Protocol

from metering.reservations.model import RequestRef
from metering.settlement.hits import Hits
from metering.settlement.model import RequestStatement, SettlementChanges, UsageEvent


class SettlementStore(Protocol):
    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        """Settle priced events in their order, in one transaction; calls that are settled already stay as they are.

        Safe to repeat, and to run in many consumers at once. Raises `Unavailable` when it must be tried again.
        """

    async def settle_hits(self, hits: Hits) -> Sequence[SettlementChanges]:
        """Settle requests that got priced answers of the cache, as `settle` would settle the event of each.

        Safe to repeat, and to run in many consumers at once. Raises `Unavailable` when it must be tried again.
        """

    async def expire(self, requests: Sequence[RequestRef]) -> Sequence[SettlementChanges]:
        """Expire those of the requests that are still held and whose lease is over by the database's clock, in one
        transaction. Replicas that call it at the same time expire different ones.
        """

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        """Raises `RequestNotFound`."""
