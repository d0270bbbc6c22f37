"""Close an exposure: the operator bears it, or bills it to the tenant."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from chassis.errors import InvalidRequest
from chassis.ids import new_id
from values.money import ZERO, NanoUsd

from metering.budgets.model import Budget, BudgetSpent
from metering.exposures.model import (
    MAX_NOTE_CHARACTERS,
    ExposureNotFound,
    ExposureReconciled,
    ReconcileRequest,
    RequestSettlement,
    SettlementPage,
)
from metering.ledger.model import Account, Entry, Transaction, TransactionKind
from metering.reservations.model import RequestNotFound, is_valid_id
from metering.settlement.model import Decision, Reconciliation, Settlement


class ExposureStore(Protocol):
    async def list(self, tenant_id: str, page: SettlementPage) -> tuple[Sequence[RequestSettlement], bool]:
        """Return a page, newest first, and whether older ones exist."""

    async def reconcile(self, request: ReconcileRequest) -> RequestSettlement:
        """Apply `reconcile_settlement` to the call in one transaction. Raises what it raises."""


@dataclass(frozen=True, slots=True)
class ReconcileChanges:
    """What a decision changes: `spent` and `exposed` are what to add to the budget."""

    settlement: Settlement
    transaction: Transaction
    spent: NanoUsd
    exposed: NanoUsd


async def reconcile(request: ReconcileRequest, *, exposures: ExposureStore) -> RequestSettlement:
    """Close the exposure of a call. Safe to repeat. Raises what `reconcile_settlement` raises, and `InvalidRequest`."""
    if not is_valid_id(request.tenant_id):
        raise InvalidRequest("tenant_id is missing", param="tenant_id")
    if not is_valid_id(request.request_id):
        raise RequestNotFound("there is no such request", param="request_id")
    if len(request.note) > MAX_NOTE_CHARACTERS or not (request.note == "" or request.note.isprintable()):
        raise InvalidRequest(f"note needs at most {MAX_NOTE_CHARACTERS} printable characters", param="note")
    if request.billed is not None and (request.decision is not Decision.BILLED or request.billed < 0):
        raise InvalidRequest("billed is an amount from 0, and only for what is billed", param="billed")
    return await exposures.reconcile(request)


def reconcile_settlement(
    request: ReconcileRequest, settlement: Settlement | None, budget: Budget, now: datetime
) -> ReconcileChanges | None:
    """Decide about the exposure of a settlement; None when the same decision was made before.

    Raises `ExposureNotFound`, `ExposureReconciled`, `InvalidRequest` for more than the exposure, and `BudgetSpent` when
    the bill does not fit under the cap.
    """
    if settlement is None or not settlement.exposed:
        raise ExposureNotFound(f"nothing of attempt {request.attempt} is exposed", param="attempt")
    exposed = settlement.exposed
    billed = (exposed if request.billed is None else request.billed) if request.decision is Decision.BILLED else ZERO
    if billed > exposed:
        raise InvalidRequest(f"only {exposed} nano-USD are exposed", param="billed")
    earlier = settlement.reconciliation
    if earlier is not None:
        if (earlier.decision, earlier.cost) != (request.decision, billed):
            raise ExposureReconciled(f"the exposure was {earlier.decision} before", param="attempt")
        return None
    if billed - settlement.counted > budget.available:
        raise BudgetSpent(
            f"the bill is {billed} nano-USD and the budget has {budget.available} left beside the exposure"
        )
    reconciliation = Reconciliation(request.decision, billed, request.key_id, request.note, now)
    return ReconcileChanges(
        replace(settlement, reconciliation=reconciliation),
        Transaction(
            new_id("txn_"),
            settlement.attempt,
            TransactionKind.RECONCILIATION,
            _entries(request.decision, exposed, billed, settlement.price_version or None),
            now,
        ),
        spent=billed,
        exposed=NanoUsd(-settlement.counted),
    )


def _entries(decision: Decision, exposed: NanoUsd, billed: NanoUsd, version: str | None) -> tuple[Entry, ...]:
    """Close the exposure: into what was written off, or against suspense and for what the tenant owes."""
    closing = Entry(Account.EXPOSURE, NanoUsd(-exposed), version)
    if decision is Decision.WRITTEN_OFF:
        return Entry(Account.WRITTEN_OFF, exposed, version), closing
    entries = (closing, Entry(Account.SUSPENSE, exposed, version))
    if not billed:
        return entries
    return (
        *entries,
        Entry(Account.RECEIVABLE, billed, version),
        Entry(Account.REVENUE, NanoUsd(-billed), version),
    )
