"""Queues and what is paused, as the API shows them."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from gateway.jobs.model import JobLane
from gateway.jobs.schemas import JobRead
from gateway.web.schemas import Id, StrictBody

Selector = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class QueueRead(BaseModel):
    """The jobs of one pool and lane, now."""

    object: Literal["queue"] = "queue"
    pool: str
    lane: JobLane
    queued: int = Field(description="Jobs that wait.")
    dispatched: int = Field(description="Jobs on their way to workers.")
    running: int = Field(description="Jobs that run.")
    oldest_wait_seconds: float | None = Field(description="How long the oldest waits that is due; none waits: null.")
    queued_tokens: int = Field(description="Tokens that the waiting jobs can use at most.")
    work_seconds: float | None = Field(
        description="Seconds that one slot needs for the waiting jobs, by the mean of recent ones; unknown: null."
    )
    slots: int = Field(description="Jobs that the live workers of the pool can run at once.")
    tenants: int = Field(description="Tenants with waiting jobs.")


class PauseRead(BaseModel):
    """What a pause stops; null matches all."""

    tenant_id: str | None
    pool: str | None
    model: str | None


class QueueList(BaseModel):
    """All queues, and what is paused."""

    object: Literal["list"] = "list"
    data: list[QueueRead]
    paused: list[PauseRead]


class PauseSelector(StrictBody):
    """Which jobs: those of a tenant, a pool, a model, or of all that are named. At least one is."""

    tenant_id: Id | None = None
    pool: Selector | None = None
    model: Selector | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.tenant_id is None and self.pool is None and self.model is None:
            raise ValueError("tenant_id, pool or model is required")
        return self

    @property
    def target(self) -> str:
        """The selector in the audit."""
        named = {"tenant": self.tenant_id, "pool": self.pool, "model": self.model}
        return ",".join(f"{name}={value}" for name, value in named.items() if value)


class JobOfTenant(StrictBody):
    """Whose job it is."""

    tenant_id: Id


class InspectedJob(BaseModel):
    """A job of any tenant without its result, with what an operator needs to judge it."""

    object: Literal["job_inspection"] = "job_inspection"
    tenant_id: str
    project_id: str
    job: JobRead
    worker_id: str | None = Field(description="The worker of its last run.")
    epoch: int = Field(description="Dispatches and claims until now.")


class TenantJobRead(JobRead):
    """A job in a list over all tenants."""

    tenant_id: str
    project_id: str
