"""Expiry as the sweeper calls it: settles the calls of requests whose lease is over, and shows what is exposed."""

from collections.abc import Sequence

from metering.reservations.model import RequestRef
from metering.settlement.consumer import observe_settlements
from metering.settlement.ports import SettlementStore


class Expiry:
    """Implements `reservations.schedule.ExpireRequests`."""

    def __init__(self, settlements: SettlementStore) -> None:
        self._settlements = settlements

    async def __call__(self, requests: Sequence[RequestRef]) -> int:
        changes = await self._settlements.expire(requests)
        observe_settlements([settlement for change in changes for settlement in change.settlements])
        return len(changes)
