"""An inference plan, the events of its run, and the record of its attempts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.usage import ExposureCause, TokenUsage


class CandidateRole(StrEnum):
    """When a candidate is tried."""

    PRIMARY = "primary"
    """In its turn."""
    CONTEXT_OVERFLOW = "context_overflow"
    """Only after a candidate refused the request as too long."""
    CONTENT_POLICY = "content_policy"
    """Only after a candidate refused the request by its content policy."""


class AnswerCheck(StrEnum):
    """What an answer that is not streamed must be; else the next candidate is tried."""

    NONE = "none"
    NOT_EMPTY = "not_empty"
    """It has a text, or calls a tool."""
    JSON = "json"
    """Its text is a JSON document, or it calls a tool."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the request."""

    upstream: str
    model: str
    body: bytes = b""
    """A complete JSON body of OpenAI's chat completions. Empty for embeddings."""
    role: CandidateRole = CandidateRole.PRIMARY
    answer_check: AnswerCheck = AnswerCheck.NONE


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates in the order to try them, and their timeouts."""

    candidates: tuple[Candidate, ...]
    stream: bool
    deadline: timedelta
    """From the start of the plan, over all attempts."""
    first_byte_timeout: timedelta
    idle_timeout: timedelta


class AttemptOutcome(StrEnum):
    """How one provider call ended."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PASSED_OVER = "passed_over"
    """No call was made: the circuit is open, or no credential works."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call; `candidate` is an index from 0, `number` counts from 1."""

    number: int
    candidate: int
    outcome: AttemptOutcome
    usage: TokenUsage
    first_byte_after: timedelta | None
    duration: timedelta
    exposure_cause: ExposureCause | None = None
    """Set when the usage is not known."""
    request_refused: bool = False
    """Whether the upstream rejected this request for its length or its content."""


@dataclass(frozen=True, slots=True)
class Started:
    """A candidate begins to respond; from here on there is no fallback."""

    candidate: int


@dataclass(frozen=True, slots=True)
class AttemptStarting:
    """A provider call after the first is about to be made; it waits for the caller's permission."""

    number: int
    candidate: int
    ended: tuple[Attempt, ...]
    """The attempts since the start of the run, or since the last event of this kind."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Payloads of the provider that arrived together."""

    payloads: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a plan, successful or not."""

    attempts: tuple[Attempt, ...]
    error: ArgosyError | None
    usage_payload: bytes = b""
    """The provider's last streamed payload if it held nothing but usage: it is kept out of the chunks."""
    warnings: Sequence[str] = ()
    """What was left out of the request for the provider that answered, a sentence each."""


Event = Started | Chunk | AttemptStarting

Emit = Callable[[Event], Awaitable[None]]
"""Sends an event to the caller; while it is awaited, the provider is not read."""


class Stopped(ArgosyError):
    """The caller asked to end the plan early."""

    kind = Kind.CANCELLED
    reason = "STOPPED"

    def __init__(self, message: str = "the caller stopped the plan") -> None:
        super().__init__(message)


class Draining(Stopped):
    """The worker is shutting down, and the response would have outlasted the drain."""

    kind = Kind.UNAVAILABLE
    reason = "SERVICE_UNAVAILABLE"
