"""Every knob that metering has. Read once, in main, and passed on as values."""

from __future__ import annotations

from datetime import timedelta

from chassis.settings import GrpcSection, KafkaSection, PostgresSection, RedisSection, Section, ServiceSettings
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict


class EventsSection(KafkaSection):
    """Kafka, where usage events come from."""

    group: str = Field("metering", description="Consumer group; one per deployment.")


class NewsSection(RedisSection):
    """Redis, over which replicas tell each other of new prices."""

    url: str = Field(
        repr=False,
        description="URL of Redis, with database number, over which replicas hear of new prices at once. "
        "The section may be left out: they then follow when METERING_PRICES_TTL is over.",
    )


class BudgetsSection(Section):
    """What a tenant may spend before anybody decided."""

    default_cap_nano_usd: int = Field(
        100_000_000_000, ge=0, lt=2**63, description="Cap of a tenant without a budget of its own, in nano-USD."
    )
    soft_limit_percent: int = Field(
        80, ge=1, le=100, description="Share of the cap from which answers say that the soft limit is passed."
    )


class ReservationsSection(Section):
    """How long money stays aside, and how many decisions share a transaction."""

    default_lease: timedelta = Field(
        timedelta(minutes=10), description="How long money stays aside when the caller does not say."
    )
    max_lease: timedelta = Field(timedelta(hours=24), description="Longest lease that a caller may ask for.")
    max_batch: int = Field(256, ge=1, le=1000, description="Reservations decided by one transaction at most.")

    @model_validator(mode="after")
    def _fit(self) -> ReservationsSection:
        if not timedelta(seconds=1) <= self.default_lease <= self.max_lease:
            raise ValueError("default_lease must be between a second and max_lease")
        return self


class SettlementSection(Section):
    """How usage events are settled."""

    max_batch: int = Field(250, ge=1, le=1000, description="Usage events settled by one transaction at most.")
    gather: timedelta = Field(
        timedelta(milliseconds=100),
        ge=timedelta(0),
        le=timedelta(seconds=1),
        description="How long the broker may hold usage events back, so that more of them share a transaction.",
    )


class SweeperSection(Section):
    """How holds are given back whose lease ran out."""

    period: timedelta = Field(timedelta(seconds=5), gt=timedelta(0), description="Pause between two looks.")
    batch: int = Field(100, ge=1, le=1000, description="Holds given back by one transaction at most.")


class Settings(ServiceSettings):
    """Settings of metering."""

    model_config = SettingsConfigDict(env_prefix="METERING_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="The books.")
    kafka: EventsSection = Field(default_factory=EventsSection, description="Where usage events come from.")
    redis: NewsSection | None = Field(None, description="Where new prices are heard of.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    budgets: BudgetsSection = Field(default_factory=BudgetsSection, description="Limits without a decision.")
    reservations: ReservationsSection = Field(default_factory=ReservationsSection, description="Reserve before spend.")
    settlement: SettlementSection = Field(default_factory=SettlementSection, description="Settle after use.")
    sweeper: SweeperSection = Field(default_factory=SweeperSection, description="Leases that ran out.")
    prices_ttl: timedelta = Field(
        timedelta(seconds=5),
        ge=timedelta(0),
        description="How old the price book in a process may be, if nothing newer was heard of.",
    )
    audit_period: timedelta = Field(
        timedelta(minutes=1), gt=timedelta(0), description="Pause between two looks over the books."
    )
