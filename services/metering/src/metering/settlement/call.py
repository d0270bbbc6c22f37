"""Settle one provider call: what the tenant pays, what is exposed, and whose doing that is."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from values.money import ZERO, NanoUsd, cost
from values.usage import UNKNOWN_USAGE, ExposureCause

from metering.ledger.model import Transaction, TransactionKind, post
from metering.reservations.model import AnnouncedAttempt, Bound, Reservation
from metering.settlement.model import ANNOUNCED, NO_EVENT, Attempt, Outcome, Settlement

COUNTED_CAUSES: Final = frozenset({ExposureCause.CLIENT})
"""The default policy: what a tenant causes counts against its cap, the operator bears the rest."""


@dataclass(slots=True)
class RequestSettler:
    """Where calls of one request are settled: its reservation, the policy, and the time."""

    reservation: Reservation
    counted_causes: Collection[ExposureCause]
    now: datetime

    def settle(self, attempt: Attempt, payable: NanoUsd, event_id: str) -> Settlement:
        """Settle a call. The tenant is charged `payable` at most, in cost and counted exposure together."""
        bound = self._bound(attempt)
        usage = attempt.usage if bound is None else bound.clamp(attempt.usage)
        cause: ExposureCause | None = None
        tokens = usage.known
        if tokens is None:
            outcome, paid, cause = Outcome.EXPOSED, ZERO, attempt.cause
            exposed = NanoUsd(min(ZERO if bound is None else bound.cost, self.reservation.held))
        elif attempt.usage.known == (0, 0):
            outcome, paid, exposed = Outcome.RELEASED, ZERO, ZERO
        elif attempt.price is None:
            raise ValueError("a call without its price cannot be billed")
        else:
            bill = cost(*tokens, attempt.price)
            outcome, paid, exposed = Outcome.BILLED, bill, ZERO
            if bill > payable:
                outcome, paid, exposed = (
                    Outcome.BILLED if payable else Outcome.EXPOSED,
                    payable,
                    NanoUsd(bill - payable),
                )
                cause = ExposureCause.PROVIDER
        counted = ZERO
        if cause is not None and cause in self.counted_causes:
            counted = NanoUsd(min(exposed, payable - paid))
        return Settlement(
            attempt.number,
            outcome,
            usage,
            attempt.price_key,
            attempt.price_version,
            paid,
            exposed,
            event_id,
            self.now,
            cause,
            counted,
            None if usage is attempt.usage else attempt.usage,
        )

    def settle_announced(self, announced: AnnouncedAttempt, payable: NanoUsd) -> Settlement:
        """Settle a call of which no event tells: by the usage that was announced, else as an estimate at its bound."""
        price = self.reservation.bounds[announced.bound].row.price
        usage = announced.usage or UNKNOWN_USAGE
        attempt = Attempt(announced.number, price.key, price.version, usage, price, announced.cause)
        return self.settle(attempt, payable, NO_EVENT if usage.known is None else ANNOUNCED)

    def post(self, settlement: Settlement) -> list[Transaction]:
        """Make the ledger's transaction for a settlement."""
        is_estimate = settlement.event_id == NO_EVENT
        return post(
            settlement.attempt,
            TransactionKind.EXPIRY if is_estimate else TransactionKind.SETTLEMENT,
            owed=settlement.cost,
            exposed=settlement.exposed,
            now=self.now,
            price_version=settlement.price_version or None,
        )

    def _bound(self, attempt: Attempt) -> Bound | None:
        """Return the bound of the call; for a key that was not reserved, the largest counts at the dearest price."""
        bound = self.reservation.find_bound(attempt.number, attempt.price_key)
        if bound is not None or not self.reservation.bounds:
            return bound
        bounds = self.reservation.bounds
        dearest = max(bounds, key=lambda bound: bound.cost)
        return Bound(
            dearest.row, max(bound.input_tokens for bound in bounds), max(bound.output_tokens for bound in bounds)
        )
