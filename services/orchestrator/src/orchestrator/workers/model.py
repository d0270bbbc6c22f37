"""Plans for an inference worker, and the events of a running plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import ArgosyError
from values.embeddings import EmbeddingInput
from values.usage import BillingUnit

from orchestrator.reservations.model import TokenBound
from orchestrator.usage.model import Attempt

# Values that are made for every request are named tuples: a frozen dataclass takes three times as long to make.


class CandidateRole(StrEnum):
    """When a candidate is tried."""

    PRIMARY = "primary"
    """In its turn."""
    CONTEXT_OVERFLOW = "context_overflow"
    """Only after a candidate has refused the request as too long for its context."""
    CONTENT_POLICY = "content_policy"
    """Only after a candidate has refused the request by its content policy."""


class AnswerCheck(StrEnum):
    """What an answer that is not streamed must be; else the next candidate is tried."""

    NONE = "none"
    NOT_EMPTY = "not_empty"
    JSON = "json"


class Candidate(NamedTuple):
    """One way to run a request: a body that is ready to send, and the most tokens that it can use."""

    upstream: str
    model: str
    bound: TokenBound
    body: bytes = b""
    """Empty for embeddings."""
    role: CandidateRole = CandidateRole.PRIMARY
    answer_check: AnswerCheck = AnswerCheck.NONE
    billing_unit: BillingUnit = BillingUnit.TOKENS
    """Of scores: what its bound and its usage count."""


class Plan(NamedTuple):
    """A chat completion: candidates in the order to try them, and their timeouts."""

    request_id: str
    candidates: tuple[Candidate, ...]
    stream: bool
    deadline: timedelta
    """For all attempts together."""
    first_byte_timeout: timedelta
    idle_timeout: timedelta


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """Inputs to embed, and candidates in the order to try them. A worker gets one of them at a time."""

    request_id: str
    candidates: tuple[Candidate, ...]
    inputs: tuple[EmbeddingInput, ...]
    dimensions: int
    """0 is the model's own."""
    deadline: timedelta
    refuse_truncation: bool = False


@dataclass(frozen=True, slots=True)
class RerankPlan:
    """Documents to score, and candidates in the order to try them. A worker gets one of them at a time."""

    request_id: str
    candidates: tuple[Candidate, ...]
    query: str
    documents: tuple[str, ...]
    deadline: timedelta


class Started(NamedTuple):
    """A candidate, by its index in the plan, answers; no other is tried after it."""

    candidate: int


class AttemptStarting(NamedTuple):
    """Another provider call is about to be made. The worker waits until it may proceed."""

    number: int
    candidate: int
    ended: tuple[Attempt, ...]
    """The attempts that ended since the start, or since the last event of this kind."""


class Chunk(NamedTuple):
    """Bytes of a provider that arrived together; they reach the client unchanged."""

    payloads: Sequence[bytes]


class CallOutcome(StrEnum):
    """How a provider call ended, as far as it tells something of the provider."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    """By the provider, whoever is at fault."""
    REFUSED = "refused"
    """By the provider, for the length or the content of the request: it tells nothing of the provider."""
    FAILED = "failed"
    OTHER = "other"
    """It was not made, or its client left."""


class ProviderCall(NamedTuple):
    """How long a provider call took. `candidate` is its index in the plan."""

    candidate: int
    outcome: CallOutcome
    first_byte_seconds: float
    seconds: float


class Finished(NamedTuple):
    """The end of a plan: all provider calls, and the error if the answer is incomplete or missing."""

    attempts: tuple[Attempt, ...]
    error: ArgosyError | None = None
    usage_payload: bytes = b""
    warnings: Sequence[str] = ()
    calls: tuple[ProviderCall, ...] = ()


Event = Started | Chunk | AttemptStarting | Finished


class EmbeddingResult(NamedTuple):
    """Vectors of little-endian 32-bit floats, one per input; none when the plan failed."""

    vectors: tuple[bytes, ...]
    finished: Finished
    retry_same: bool = False
    """After a failure: whether the same candidate may answer at once."""
    fallback: bool = False
    """After a failure: whether another candidate may answer."""


class RerankResult(NamedTuple):
    """Scores from 0 to 1, one per document; none when the plan failed."""

    scores: tuple[float, ...]
    finished: Finished
    retry_same: bool = False
    """After a failure: whether the same candidate may answer at once."""
    fallback: bool = False
    """After a failure: whether another candidate may answer."""
    warnings: tuple[str, ...] = ()
