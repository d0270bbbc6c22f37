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


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INFERENCE_WORKER_", env_nested_delimiter="__", frozen=True)

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
        description="Plans and embeddings that run at once; more are rejected as unavailable.",
    )

    usage_wait: timedelta = Field(
        timedelta(seconds=2),
        ge=timedelta(0),
        le=timedelta(seconds=2.5),
        description="How long a stopped stream is read on, when its usage or much that was written is still to come. "
        "It has to fit into the end of the drain.",
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
