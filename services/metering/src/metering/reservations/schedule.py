"""The sweeper: expires reservations whose lease is over. Every replica runs one."""

from collections.abc import Sequence
from typing import Protocol

from chassis.telemetry import logger

from metering.metrics import EXPIRED, EXPOSED
from metering.reservations.model import Reservation

log = logger("metering.reservations")


class LeaseStore(Protocol):
    async def expire(self, limit: int) -> Sequence[Reservation]:
        """Expire at most `limit` held reservations whose lease is over by the database's clock, in one transaction.

        Replicas that call it at the same time expire different ones.
        """


class Sweeper:
    def __init__(self, leases: LeaseStore, max_batch: int) -> None:
        self._leases = leases
        self._max_batch = max_batch

    async def run_once(self) -> bool:
        """Expire one batch; return whether there may be more."""
        expired = await self._leases.expire(self._max_batch)
        if expired:
            EXPIRED.inc(len(expired))
            EXPOSED.labels("expiry").inc(sum(reservation.held for reservation in expired))
            log.warning("reservations_expired", count=len(expired))
        return len(expired) == self._max_batch
