"""The double-entry ledger: transactions whose lines sum to zero and never change.

Accounts, positive is a debit:
    receivable   what the tenant owes us                     against revenue
    exposure     what the house may have to bear itself      against suspense
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.ids import new_id

from metering.domain.money import NanoUsd


class Account(StrEnum):
    """Where money stands."""

    RECEIVABLE = "receivable"
    REVENUE = "revenue"
    EXPOSURE = "exposure"
    SUSPENSE = "suspense"


class Cause(StrEnum):
    """Why a transaction was written; the books take one of each for an attempt."""

    SETTLEMENT = "settlement"
    EXPIRY = "expiry"
    CORRECTION = "correction"


class Unbalanced(ValueError):
    """The lines of a transaction do not sum to zero: a bug, never an input."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `price_version` names the row of the price book that it was computed with, if one was."""

    account: Account
    amount: NanoUsd
    price_version: str | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Lines that belong together. Raises `Unbalanced` when they do not sum to zero."""

    transaction_id: str
    attempt: int
    cause: Cause
    entries: tuple[Entry, ...]
    created_at: datetime

    def __post_init__(self) -> None:
        if sum([entry.amount for entry in self.entries]) != 0:
            raise Unbalanced(f"transaction {self.transaction_id} does not sum to zero")


def book(
    attempt: int,
    cause: Cause,
    *,
    owed: NanoUsd,
    exposed: NanoUsd,
    now: datetime,
    price_version: str | None = None,
) -> list[Transaction]:
    """Book what a tenant owes and what the house bears; negative amounts take back. Nothing to book: no transaction."""
    entries: list[Entry] = []
    if owed != 0:
        entries += _pair(Account.RECEIVABLE, Account.REVENUE, owed, price_version)
    if exposed != 0:
        entries += _pair(Account.EXPOSURE, Account.SUSPENSE, exposed, price_version)
    return [Transaction(new_id("txn_"), attempt, cause, tuple(entries), now)] if entries else []


def _pair(debit: Account, credit: Account, amount: NanoUsd, price_version: str | None) -> tuple[Entry, Entry]:
    return Entry(debit, amount, price_version), Entry(credit, NanoUsd(-amount), price_version)
