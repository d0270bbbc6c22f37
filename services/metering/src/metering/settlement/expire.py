"""Expire a reservation whose lease is over."""

from collections.abc import Collection
from datetime import datetime

from values.money import NanoUsd
from values.usage import ExposureCause

from metering.reservations.model import ReservationState
from metering.settlement.model import LockedRequest, Settlement, SettlementCase, SettlementChanges
from metering.settlement.settle import COUNTED_CAUSES, RequestSettler


def expire(
    request: LockedRequest, now: datetime, counted_causes: Collection[ExposureCause] = COUNTED_CAUSES
) -> SettlementChanges:
    """Settle each call that a provider may have had, and stop holding the rest.

    A call whose usage was announced is billed or released; any other one is exposed at its own bound. Without an
    announcement that is the first call, on the first candidate.
    """
    reservation = request.reservation
    if reservation is None or reservation.state is not ReservationState.HELD:
        raise ValueError("only a reservation that is held can expire")
    settler, payable = RequestSettler(reservation, counted_causes, now), reservation.held
    settlements: list[Settlement] = []
    for announced in reservation.possible_attempts:
        settlement = settler.settle_announced(announced, payable)
        payable = NanoUsd(payable - settlement.cost - settlement.counted)
        settlements.append(settlement)
    return SettlementChanges(
        SettlementCase.EXPIRED,
        reservation.with_state(ReservationState.EXPIRED),
        tuple(settlements),
        tuple(transaction for settlement in settlements for transaction in settler.post(settlement)),
        spent=NanoUsd(sum([settlement.cost for settlement in settlements])),
        held=NanoUsd(-reservation.held),
        exposed=NanoUsd(sum([settlement.counted for settlement in settlements])),
    )
