"""Post to the ledger."""

from datetime import datetime

from chassis.ids import new_id
from values.money import NanoUsd

from metering.ledger.model import Account, Entry, Transaction, TransactionKind


def post(
    attempt: int,
    kind: TransactionKind,
    *,
    owed: NanoUsd,
    exposed: NanoUsd,
    now: datetime,
    price_version: str | None = None,
) -> list[Transaction]:
    """Make the transaction for what the tenant owes and what is exposed; negative amounts reverse earlier ones.

    Returns no transaction when both amounts are zero.
    """
    entries: list[Entry] = []
    if owed != 0:
        entries += _pair(Account.RECEIVABLE, Account.REVENUE, owed, price_version)
    if exposed != 0:
        entries += _pair(Account.EXPOSURE, Account.SUSPENSE, exposed, price_version)
    return [Transaction(new_id("txn_"), attempt, kind, tuple(entries), now)] if entries else []


def _pair(debit: Account, credit: Account, amount: NanoUsd, price_version: str | None) -> tuple[Entry, Entry]:
    return Entry(debit, amount, price_version), Entry(credit, NanoUsd(-amount), price_version)
