"""The tenant's account as the edge shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from .inference import Tokens
from .money import NanoUsd


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used of one price key, in one day or over the whole span."""

    day: datetime | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: NanoUsd


@dataclass(frozen=True, slots=True)
class Usage:
    """Rows and their sum."""

    rows: Sequence[UsageRow]
    total: NanoUsd


class ReservationState(StrEnum):
    """What has become of the money set aside."""

    HELD = "held"
    SETTLED = "settled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one request."""

    held: NanoUsd
    state: ReservationState
    created_at: datetime
    expires_at: datetime


class Outcome(StrEnum):
    """How a provider call was settled."""

    BILLED = "billed"
    RELEASED = "released"
    EXPOSED = "exposed"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one provider call in the books; attempt 0 made no call."""

    attempt: int
    outcome: Outcome
    tokens: Tokens
    tokens_from: str
    price_key: str
    price_version: str
    cost: NanoUsd
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger; a debit is positive."""

    transaction_id: str
    account: str
    amount: NanoUsd
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RequestAccount:
    """The whole account of one request."""

    request_id: str
    reservation: Reservation
    settlements: Sequence[Settlement]
    entries: Sequence[LedgerEntry]

    @property
    def cost(self) -> NanoUsd | None:
        """What the tenant pays; None until it is settled."""
        if not self.settlements:
            return None
        return NanoUsd(sum(settlement.cost for settlement in self.settlements))


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a tenant may spend; spent + held never exceeds it."""

    cap: NanoUsd
    spent: NanoUsd
    held: NanoUsd


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens, in force from an instant."""

    price_key: str
    version: str
    input_per_million: NanoUsd
    output_per_million: NanoUsd
    effective_at: datetime


class Accounts(Protocol):
    """The door to metering; acts for the current caller."""

    async def usage(self, start: datetime | None, end: datetime | None, *, by_day: bool) -> Usage:
        """Sum up what the caller's tenant used: `start` inclusive, `end` exclusive."""
        ...

    async def request(self, request_id: str) -> RequestAccount:
        """Raises REQUEST_NOT_FOUND."""
        ...

    async def budget(self) -> Budget:
        """Read the budget of the caller's tenant."""
        ...

    async def set_budget(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Set any tenant's cap. Raises PERMISSION_DENIED."""
        ...

    async def prices(self) -> Sequence[Price]:
        """Prices in force now."""
        ...

    async def set_price(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        """Put a new price in force. Raises PERMISSION_DENIED."""
        ...
