"""Every knob that the orchestrator has. Read once, in main, and passed on as values."""

from __future__ import annotations

from datetime import timedelta

from chassis.settings import GrpcSection, KafkaSection, PostgresSection, Section, ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from orchestrator.domain.policy import Policy

NOTHING = timedelta(0)


class RoutesSection(PostgresSection):
    """The schema `orchestration`."""

    owner_dsn: SecretStr | None = Field(
        None, description="Connection URL of the owner role; only `migrate` and `route` use it."
    )


class EventsSection(KafkaSection):
    """Kafka, where usage events go to."""

    group: str = Field("orchestrator", description="Consumer group; nothing is consumed yet.")


class TargetsSection(Section):
    """The other services."""

    worker: str = Field(description="Address of the inference worker: `host:port`.")
    metering: str = Field(description="Address of metering: `host:port`.")
    retrieval: str = Field(description="Address of retrieval: `host:port`.")


class ContextSection(Section):
    """Retrieved passages in prompts."""

    passages: int = Field(8, ge=1, le=50, description="Passages asked for when a request does not say.")
    bytes: int = Field(
        4_000,
        ge=200,
        le=1_000_000,
        description="The most that passages take of a prompt; about four bytes are a token.",
    )


class TimesSection(Section):
    """How long things may take."""

    default_deadline: timedelta = Field(
        timedelta(minutes=5), gt=NOTHING, description="For a request that brings no deadline."
    )
    longest_deadline: timedelta = Field(
        timedelta(minutes=30), gt=NOTHING, description="A request that asks for more gets this."
    )
    lease: timedelta = Field(
        timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="How long beyond its deadline a reservation waits for its settlement.",
    )
    first_byte: timedelta = Field(
        timedelta(seconds=60), gt=NOTHING, description="Until a stream's first byte; then the next upstream is tried."
    )
    whole_answer: timedelta = Field(
        timedelta(minutes=4),
        gt=NOTHING,
        description="The same for an answer that is not streamed: its first byte comes when all of it is written.",
    )
    idle: timedelta = Field(timedelta(seconds=60), gt=NOTHING, description="Longest silence inside an answer.")
    reserve: timedelta = Field(timedelta(seconds=5), gt=NOTHING, description="The most that a reservation may take.")
    search: timedelta = Field(
        timedelta(seconds=10), gt=NOTHING, description="The most that a search for context may take."
    )
    hang_up: timedelta = Field(
        timedelta(seconds=30),
        gt=NOTHING,
        description="How long a plan may take to give its account after its client went away.",
    )
    record: timedelta = Field(
        timedelta(seconds=2),
        gt=NOTHING,
        description="How long the end of an answer waits for its usage to be written; the writing goes on after it.",
    )
    routes_refresh: timedelta = Field(timedelta(seconds=5), gt=NOTHING, description="How old routes in memory may be.")
    outbox_look: timedelta = Field(
        timedelta(seconds=15), gt=NOTHING, description="Pause between two counts of the outbox, for its metric."
    )


class LimitsSection(Section):
    """How much may be at hand at once."""

    in_flight: int = Field(
        4_096, ge=1, description="Requests being answered and usage events waiting to be written, in one process."
    )
    waiting_bytes: int = Field(
        262_144, ge=1, description="Bytes that may wait for one slow client before its upstream has to wait."
    )
    plan_bytes: int = Field(
        15_000_000,
        ge=1,
        le=16_000_000,
        description="The most that a request's bodies for all its candidates may have together.",
    )
    embedding_bytes: int = Field(
        8_000_000, ge=1, le=16_000_000, description="The most that the inputs of one embedding may have together."
    )


class Settings(ServiceSettings):
    """Settings of the orchestrator."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", frozen=True)

    postgres: RoutesSection = Field(description="Routes, and the outbox.")
    kafka: EventsSection = Field(default_factory=EventsSection, description="Where usage events go to.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    targets: TargetsSection = Field(description="The other services.")
    context: ContextSection = Field(default_factory=ContextSection, description="Retrieved passages in prompts.")
    times: TimesSection = Field(default_factory=TimesSection, description="How long things may take.")
    limits: LimitsSection = Field(default_factory=LimitsSection, description="How much may be at hand at once.")

    def policy(self) -> Policy:
        """Return what the domain needs to know of it."""
        return Policy(
            default_deadline=self.times.default_deadline,
            longest_deadline=self.times.longest_deadline,
            lease=self.times.lease,
            first_byte=self.times.first_byte,
            whole_answer=self.times.whole_answer,
            idle=self.times.idle,
            reserve=self.times.reserve,
            search=self.times.search,
            passages=self.context.passages,
            context_bytes=self.context.bytes,
            hang_up=self.times.hang_up,
            waiting_bytes=self.limits.waiting_bytes,
            plan_bytes=self.limits.plan_bytes,
            embedding_bytes=self.limits.embedding_bytes,
        )
