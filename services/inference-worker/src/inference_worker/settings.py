"""Every setting of the inference worker."""

from datetime import timedelta
from typing import Annotated, Self

from chassis.settings import (
    GrpcSection,
    KafkaSection,
    PeersSection,
    RedisSection,
    Section,
    ServiceSettings,
    peer_address,
)
from chassis.settings.sections import refuse_placeholder, split_secrets
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from inference_worker.breakers.model import CircuitPolicy
from inference_worker.breakers.retry_budget import RetryBudget
from inference_worker.plans.choose import RetryPolicy
from inference_worker.providers.registry import UpstreamConfig

# As it may stand in a price key.
UpstreamName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]

PoolName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]


class DispatchSection(KafkaSection):
    """Kafka, from which dispatched jobs come. Without it the worker only serves gRPC."""

    group: str = Field(
        "", description="Consumer group, one per pool; by default `inference-worker-jobs-` and the pool's name."
    )


class Peers(PeersSection):
    """The other services. Without them the upstreams are those of the settings, and there are no jobs."""

    orchestrator: str = peer_address("the orchestrator, which owns jobs")


class JobsSection(Section):
    """Jobs that the worker runs; with Kafka only."""

    pool: PoolName = Field("default", description="Pool whose jobs it runs; plans of tenants name pools.")
    slots: int = Field(16, ge=1, le=1024, description="Jobs that run at once, besides the calls over gRPC.")
    delta_ttl: timedelta = Field(
        timedelta(hours=1),
        ge=timedelta(seconds=1),
        description="How long Redis keeps the chunks of a job's answer after the last one, for those who watch it.",
    )


class CircuitsSection(Section):
    """When an upstream's model is not called for some time, for each credential."""

    failures_in_row: int = Field(5, ge=1, le=10, description="Failures in a row that open a circuit.")
    failure_ratio: float = Field(
        0.5, gt=0, le=1, description="Part of the calls of 10 seconds, of at least 10, whose failure opens a circuit."
    )
    slow_first_byte: timedelta | None = Field(
        None, description="First bytes that take longer open a circuit when most do; by default none is too slow."
    )
    open_for: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Until the first probe; doubles with each that fails."
    )
    max_open_for: timedelta = Field(timedelta(seconds=5), gt=timedelta(0), description="Most time between two probes.")
    account_rest: timedelta = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long a credential is not used after the upstream refused it, or its account was empty.",
    )

    def policy(self) -> CircuitPolicy:
        slow = self.slow_first_byte
        return CircuitPolicy(
            failures_in_row=self.failures_in_row,
            failure_ratio=self.failure_ratio,
            slow_first_byte=slow.total_seconds() if slow is not None else None,
            open_for=self.open_for.total_seconds(),
            max_open_for=self.max_open_for.total_seconds(),
            account_rest=self.account_rest.total_seconds(),
        )


class RetriesSection(Section):
    """Calls that are made again after a failure of the upstream, before the next candidate is tried."""

    max_per_candidate: int = Field(1, ge=0, le=5, description="Retries of one candidate in one request.")
    max_ratio: float = Field(0.1, ge=0, le=1, description="Retries in relation to requests, for each upstream.")

    def policy(self) -> RetryPolicy:
        return RetryPolicy(retries=self.max_per_candidate)

    def new_budget(self) -> RetryBudget:
        return RetryBudget(self.max_ratio)


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INFERENCE_WORKER_", env_nested_delimiter="__", frozen=True)

    supervised: bool = Field(
        True,
        description="Whether a small parent process replaces the worker at once when a signal has killed it, such as a "
        "job that crashes the interpreter. Without it the container restarts.",
    )
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    upstreams: dict[UpstreamName, UpstreamConfig] = Field(
        default_factory=dict,
        description="Upstreams by the name that plans use: JSON, or a variable for each part of each.",
    )
    credential_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that unwrap the data keys of credentials, separated by commas; the same as "
        "ORCHESTRATOR_UPSTREAMS__CREDENTIAL_KEYS. To rotate: add the new one at the end here and there, move it to the "
        "front there, run `python -m orchestrator reseal`, remove the old one.",
    )
    allow_link_local: bool = Field(
        False,
        description="Whether upstreams that the API declares may be at link-local addresses or metadata services.",
    )
    max_in_flight: int = Field(
        4096,
        ge=1,
        description="Plans, embeddings and requests for scores that run at once; more are rejected as unavailable.",
    )

    usage_wait: timedelta = Field(
        timedelta(seconds=2),
        ge=timedelta(0),
        le=timedelta(seconds=2.5),
        description="How long a stopped stream is read on, when its usage or much that was written is still to come. "
        "It has to fit into the end of the drain.",
    )

    circuits: CircuitsSection = Field(default_factory=CircuitsSection, description="Circuit breakers.")
    retries: RetriesSection = Field(default_factory=RetriesSection, description="Retries.")
    min_stream_bytes_per_second: float = Field(
        0.0,
        ge=0,
        description="A stream that is slower before its first content is given up, and the next candidate tried; 0 for "
        "never. Models that think in silence need 0.",
    )

    kafka: DispatchSection | None = Field(None, description="Kafka, from which dispatched jobs come.")
    peers: Peers | None = Field(
        None, description="The orchestrator, which owns jobs, and the upstreams that operators declare by its API."
    )
    redis: RedisSection | None = Field(None, description="Redis, for live deltas and cancellations of jobs.")
    jobs: JobsSection | None = Field(None, description="Jobs that the worker runs.")

    @field_validator("credential_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return split_secrets(value)

    @field_validator("credential_keys")
    @classmethod
    def _are_secret(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            refuse_placeholder(secret)
        return value

    @field_validator("peers", "redis", "jobs")
    @classmethod
    def _belongs_to_jobs(cls, value: Section | None, info: ValidationInfo) -> Section | None:
        """Refuse half of what jobs need: a worker that silently takes none would be found by its queue."""
        if "kafka" not in info.data:
            return value  # it was refused itself
        if info.data["kafka"] is not None and value is None and info.field_name != "jobs":
            raise ValueError("is required for jobs from Kafka, and INFERENCE_WORKER_KAFKA__* is set")
        if info.data["kafka"] is None and value is not None and info.field_name != "peers":
            raise ValueError("is only for jobs from Kafka, and INFERENCE_WORKER_KAFKA__SIGNING_KEYS is not set")
        return value

    @model_validator(mode="after")
    def _drains_in_time(self) -> Self:
        if self.drain < timedelta(seconds=5):
            raise ValueError("drain must be at least 5 seconds: 4 are for usage reports and connections")
        return self
