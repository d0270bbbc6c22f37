"""What circuits are of, their states, and when they open. Times are of the monotonic clock, in seconds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BlockReason(StrEnum):
    """Why a call is not made."""

    OPEN = "open"
    RATE_LIMITED = "rate_limited"
    ACCOUNT = "account"


class CircuitKey(NamedTuple):
    """What a circuit is of; `account` is the id of a credential."""

    upstream: str
    account: str
    model: str


class Block(NamedTuple):
    """Why no call is made, and until when."""

    reason: BlockReason
    until: float


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When circuits open, and for how long. All times are in seconds."""

    failures_in_row: int = 5
    window: float = 10.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    min_hung: float = 1.0
    """A time-out that came sooner says nothing of other calls: the upstream may have given up by itself."""
    slow_first_byte: float | None = None
    """A first byte that takes longer counts as slow; None for no limit."""
    slow_ratio: float = 0.8
    open_for: float = 1.0
    """Doubles each time a probe fails, up to `max_open_for`."""
    max_open_for: float = 5.0
    probe_timeout: float = 5.0
    """A probe without an outcome for so long lets another one pass."""
    probe_turn: float = 1.0
    """So much later a tenant whose probe failed may make the next one: until then another tenant's is awaited."""
    grant_timeout: float = 5.0
    """How long a probe waits for the other replicas' consent, which needs Redis."""
    rate_limit_rest: float = 1.0
    """For a refusal by rate that names no wait."""
    max_rate_limit_rest: float = 60.0
    account_rest: float = 30.0
