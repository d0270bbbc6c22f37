"""Expire a reservation whose lease is over."""

from datetime import datetime

from values.money import ZERO, NanoUsd
from values.usage import UNKNOWN_USAGE

from metering.ledger.model import TransactionKind
from metering.ledger.post import post
from metering.reservations.model import ReservationState
from metering.settlement.model import (
    REQUEST_ATTEMPT,
    LockedRequest,
    Outcome,
    Settlement,
    SettlementCase,
    SettlementChanges,
)


def expire(request: LockedRequest, now: datetime) -> SettlementChanges:
    """Stop holding the amount and expose all of it: what the request consumed is unknown."""
    reservation = request.reservation
    if reservation is None or reservation.state is not ReservationState.HELD:
        raise ValueError("only a reservation that is held can expire")
    held = reservation.held
    exposed = Settlement(REQUEST_ATTEMPT, Outcome.EXPOSED, UNKNOWN_USAGE, "", "", ZERO, held, "", now)
    return SettlementChanges(
        SettlementCase.EXPIRED,
        reservation.with_state(ReservationState.EXPIRED),
        (exposed,),
        tuple(post(REQUEST_ATTEMPT, TransactionKind.EXPIRY, owed=ZERO, exposed=held, now=now)),
        spent=ZERO,
        held=NanoUsd(-held),
    )
