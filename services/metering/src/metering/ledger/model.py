"""The double-entry ledger: transactions whose entries sum to zero and never change, and how they are posted.

Accounts, positive is a debit:
    receivable   what the tenant owes                                     against revenue
    exposure     what was not paid and may have been consumed             against suspense
    written_off  exposure that the operator of Argosy bears               against exposure
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.ids import new_id
from values.money import NanoUsd


class Account(StrEnum):
    RECEIVABLE = "receivable"
    REVENUE = "revenue"
    EXPOSURE = "exposure"
    SUSPENSE = "suspense"
    WRITTEN_OFF = "written_off"


class TransactionKind(StrEnum):
    """Why a transaction was posted; the ledger takes one of each kind per attempt of a request."""

    SETTLEMENT = "settlement"
    EXPIRY = "expiry"
    CORRECTION = "correction"
    RECONCILIATION = "reconciliation"


class UnbalancedTransaction(ValueError):
    """The entries of a transaction do not sum to zero: a bug, never an input."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`price_version` names the price that the amount was computed with, if one was."""

    account: Account
    amount: NanoUsd
    price_version: str | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Entries that belong together. Raises `UnbalancedTransaction` when they do not sum to zero."""

    transaction_id: str
    attempt: int
    kind: TransactionKind
    entries: tuple[Entry, ...]
    created_at: datetime

    def __post_init__(self) -> None:
        if sum([entry.amount for entry in self.entries]) != 0:
            raise UnbalancedTransaction(f"transaction {self.transaction_id} does not sum to zero")


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
