"""Jobs and their states."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import ArgosyError, Kind, RemoteError
from values.money import ZERO, NanoUsd
from values.usage import TokenUsage


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    QUARANTINED = "quarantined"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
WAITING = frozenset({JobState.QUEUED, JobState.DISPATCHED, JobState.QUARANTINED})
"""Not final, and no worker has it."""


class Lane(StrEnum):
    """How urgent a job is, the most urgent first."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


class Endpoint(StrEnum):
    """What a job does."""

    CHAT = "/v1/chat/completions"
    EMBEDDINGS = "/v1/embeddings"


class WaitReason(StrEnum):
    """Why a queued job waits."""

    TURN = ""
    RETRY = "retry"
    QUOTA = "insufficient_quota"


class JobKey(NamedTuple):
    """Names a job."""

    tenant_id: str
    job_id: str


class RunRef(NamedTuple):
    """Names a dispatch or a run of a job: every write is compared with the epoch."""

    tenant_id: str
    job_id: str
    epoch: int

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant_id, self.job_id)

    @property
    def request_id(self) -> str:
        """The request of the run, as metering, logs and providers know it."""
        return f"{self.job_id}.{self.epoch}"


class JobError(NamedTuple):
    """An error as it is stored."""

    kind: str
    reason: str
    message: str
    param: str = ""

    def to_error(self) -> RemoteError:
        return RemoteError(Kind(self.kind), self.reason, self.message, param=self.param or None)


def job_error(error: ArgosyError) -> JobError:
    # Postgres has no NUL in text; a provider's message may, and a parameter may be the client's own word.
    return JobError(
        error.kind.value, error.reason, error.message.replace("\0", ""), (error.param or "").replace("\0", "")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to insert."""

    tenant_id: str
    job_id: str
    project_id: str
    key_id: str
    user_id: str
    plan: str
    endpoint: Endpoint
    model: str
    body: bytes
    metadata: Mapping[str, str]
    pool: str
    """That of the plan; the tenant's own, if it has one, comes first."""
    lane: Lane
    cost_tokens: int
    """The most tokens that it can use, by which tenants share a lane."""
    deadline: timedelta
    """From its acceptance until it fails unless it has finished."""
    retention: timedelta
    """How long its result is kept."""
    max_queued: int
    """The most waiting jobs of the tenant, this one included."""
    fingerprint: bytes
    """Of all that the client chose: a repeated submission has the same."""
    batch_id: str | None = None
    custom_id: str | None = None

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant_id, self.job_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands."""

    tenant_id: str
    job_id: str
    project_id: str
    endpoint: str
    model: str
    pool: str
    lane: Lane
    state: JobState
    created_at: datetime
    deadline_at: datetime
    state_reason: str = ""
    epoch: int = 0
    """Of its last dispatch or run; of a final job, of the run that ended it."""
    started_at: datetime | None = None
    """When its last run began."""
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    errors: int = 0
    crashes: int = 0
    worker_id: str = ""
    result: bytes = b""
    """Empty where it was not asked for."""
    error: JobError | None = None
    """Why it failed; of a job that is not final, the error of its last run."""
    usage: TokenUsage | None = None
    """Over all runs."""
    cost: NanoUsd = ZERO
    retention: timedelta = timedelta(days=30)
    """How long its result is kept."""
    metadata: Mapping[str, str]
    batch_id: str | None = None
    custom_id: str | None = None
    cancel_requested: bool = False

    @property
    def ref(self) -> RunRef:
        return RunRef(self.tenant_id, self.job_id, self.epoch)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


class JobFilter(NamedTuple):
    """Which jobs to list. Without a batch, those of no batch."""

    states: frozenset[JobState] = frozenset()
    """Empty for all."""
    endpoint: str = ""
    model: str = ""
    batch_id: str = ""
    after: str = ""
    """Only jobs after this id, in the order of the list."""
    limit: int = 20
