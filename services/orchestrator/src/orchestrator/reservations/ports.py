"""The port of the reservations feature."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from orchestrator.reservations.model import Reservation, TokenBound


class MeteringClient(Protocol):
    """Metering, on behalf of the current caller."""

    async def reserve(
        self, request_id: str, bounds: Sequence[TokenBound], lease: timedelta, timeout: timedelta
    ) -> Reservation:
        """Hold the cost of the most expensive of `bounds` for `lease`. Safe to repeat.

        Raises `RemoteError` when metering refuses: no price, budget exhausted. `Unavailable` and `DeadlineExceeded`
        leave open whether the money is held.
        """
