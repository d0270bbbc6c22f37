"""The account of a plan: every attempt, and how each ended."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from inference_worker.domain.usage import Usage


class Outcome(StrEnum):
    """How one provider call ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    CUT = "cut"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call: which candidate (from 0), what it used, how long it took."""

    number: int
    candidate: int
    outcome: Outcome
    usage: Usage
    first_byte_after: timedelta | None
    duration: timedelta
