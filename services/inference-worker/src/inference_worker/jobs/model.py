"""Jobs as a worker sees them: what was dispatched, what was claimed, and what a run resulted in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.embeddings import EmbeddingInput

from inference_worker.plans.model import Attempt, Candidate, Plan


class Lane(StrEnum):
    """How urgent a job is."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


DISPATCH_TOPIC = "argosy.orchestration.job-dispatched.v1"


def dispatch_topic(pool: str, lane: Lane) -> str:
    return f"{DISPATCH_TOPIC}.{pool}.{lane}"


@dataclass(frozen=True, slots=True)
class RunRef:
    """Names one run of a job. The orchestrator refuses each write whose epoch is not the job's."""

    tenant_id: str
    job_id: str
    epoch: int


NO_RUN = RunRef("", "", 0)
"""Of what is done for no run."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A job that is due. Its epoch is that of the dispatch; the claim's is higher."""

    ref: RunRef
    lane: Lane
    dispatched_at: datetime | None


@dataclass(frozen=True, slots=True)
class Offer:
    """A dispatched job that no worker has claimed: its record may be held by a worker that died, or be lost."""

    ref: RunRef
    lane: Lane


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts to embed or their token ids, by the first candidate; by the others after permission."""

    candidates: tuple[Candidate, ...]
    inputs: tuple[EmbeddingInput, ...]
    deadline: timedelta
    dimensions: int | None
    refuse_truncation: bool = False


@dataclass(frozen=True, slots=True)
class NoWork:
    """The job ended during its claim, or waits again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """The claim has work that this worker cannot read."""

    error: ArgosyError


Work = Plan | Embedding | NoWork | Unrunnable


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that is durably this worker's until `lease` after the claim, or after the last heartbeat."""

    ref: RunRef
    lease: timedelta
    request_id: str
    work: Work


@dataclass(frozen=True, slots=True)
class RunResult:
    """The record of all provider calls of a run, and its answer or its error."""

    attempts: tuple[Attempt, ...]
    body: bytes = b""
    """The JSON body of a whole chat completion."""
    vectors: tuple[bytes, ...] = ()
    error: ArgosyError | None = None

    @property
    def answer_bytes(self) -> int:
        return len(self.body) + sum(map(len, self.vectors))


class RunEnd(StrEnum):
    """What became of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    """The worker was shutting down."""
    LOST = "lost"
    """Another run has the job, or the job is gone."""
    UNREPORTED = "unreported"
    """The orchestrator did not answer until the worker had to exit, or it does not accept the report."""


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """Runs that this worker must stop: lost ones without a report, cancelled ones with a report."""

    lost: frozenset[RunRef]
    cancelled: frozenset[RunRef]


TRANSIENT = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.THROTTLED})
"""Kinds of errors after which the same call may succeed."""


class AnswerNotStored(ArgosyError):
    """The answer of a job is so large that it could not be stored in time, in several tries. The provider was paid.

    Ask for `encoding_format` base64, for fewer texts, or for fewer tokens.
    """

    kind, reason = Kind.TOO_LARGE, "JOB_RESULT_NOT_STORED"


class NotClaimable(Exception):
    """The job is finished, cancelled, or dispatched anew."""


class LeaseLost(Exception):
    """The orchestrator refuses a write of this run: another run has the job, or it is gone."""
