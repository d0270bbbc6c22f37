"""The settings of metering. `main` reads them once and passes them on as values."""

from __future__ import annotations

from datetime import timedelta

from chassis.settings import (
    GrpcSection,
    KafkaSection,
    PeersSection,
    PostgresSection,
    RedisSection,
    Section,
    ServiceSettings,
    peer_address,
)
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict
from values.usage import ExposureCause

from metering.budgets.model import DEFAULT_SOFT_LIMIT_PERCENT


class Peers(PeersSection):
    """Addresses of other services."""

    orchestrator: str = peer_address("the orchestrator", "127.0.0.1:9001")


class UsageEventsSection(KafkaSection):
    """Kafka: usage events are consumed, events about budgets published."""

    group: str = Field("metering", description="Consumer group; one per deployment.")


class PriceChangesSection(RedisSection):
    """Redis, over which replicas invalidate each other's cached prices."""

    url: str = Field(
        repr=False,
        description="URL of Redis, with database number, over which replicas learn of new prices at once. "
        "The section may be left out: then they see new prices after METERING_PRICES_TTL.",
    )


class BudgetsSection(Section):
    """Budgets of tenants for which no cap was set."""

    default_cap_nano_usd: int = Field(
        100_000_000_000, ge=0, lt=2**63, description="Cap of a tenant without a budget of its own, in nano-USD."
    )
    soft_limit_percent: int = Field(
        DEFAULT_SOFT_LIMIT_PERCENT,
        ge=1,
        le=100,
        description="Percent of the cap from which responses, and an event, report that the soft limit is passed.",
    )


class ReservationsSection(Section):
    """Leases of reservations, and how many reservations share a transaction."""

    default_lease: timedelta = Field(
        timedelta(minutes=10), description="Lease of a reservation whose request names none."
    )
    max_lease: timedelta = Field(timedelta(hours=24), description="Longest lease that a request may name.")
    max_batch: int = Field(256, ge=1, le=1000, description="Most reservations in one transaction.")

    @model_validator(mode="after")
    def _validate_leases(self) -> ReservationsSection:
        if not timedelta(seconds=1) <= self.default_lease <= self.max_lease:
            raise ValueError("default_lease must be between a second and max_lease")
        return self


class SettlementSection(Section):
    """How usage events are settled."""

    max_batch: int = Field(250, ge=1, le=1000, description="Most usage events settled in one transaction.")
    fetch_max_wait: timedelta = Field(
        timedelta(milliseconds=100),
        ge=timedelta(0),
        le=timedelta(seconds=1),
        description="Longest time that the broker holds a fetch back, so that more usage events share a transaction.",
    )


class ExposureSection(Section):
    """Who bears what may have been consumed and was not billed."""

    counted_causes: frozenset[ExposureCause] = Field(
        frozenset({ExposureCause.CLIENT}),
        description="Causes of exposure that count against the cap of the tenant until they are reconciled, as JSON: "
        '`["client"]`; of `client`, `provider`, `fleet`. The operator of Argosy bears the others.',
    )


class SweeperSection(Section):
    """How reservations whose lease is over are settled."""

    interval: timedelta = Field(
        timedelta(seconds=5), gt=timedelta(0), description="Time between two sweeps for expired reservations."
    )
    max_batch: int = Field(100, ge=1, le=1000, description="Most reservations expired in one transaction.")
    extension: timedelta = Field(
        timedelta(minutes=1),
        ge=timedelta(seconds=1),
        description="New lease of a request that the orchestrator still answers, or whose usage waits to be published.",
    )
    catch_up_timeout: timedelta = Field(
        timedelta(seconds=10),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=1),
        description="Longest time that a sweep waits until all usage events are settled; else nothing expires.",
    )


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="METERING_", env_nested_delimiter="__", frozen=True)

    postgres: PostgresSection = Field(description="Database of metering.")
    kafka: UsageEventsSection = Field(description="Where usage events come from, and events about budgets go.")
    redis: PriceChangesSection | None = Field(None, description="Price changes between replicas.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    budgets: BudgetsSection = Field(default_factory=BudgetsSection, description="Default limits.")
    reservations: ReservationsSection = Field(default_factory=ReservationsSection, description="Reserve before spend.")
    settlement: SettlementSection = Field(default_factory=SettlementSection, description="Settle after use.")
    sweeper: SweeperSection = Field(default_factory=SweeperSection, description="Expired leases.")
    exposure: ExposureSection = Field(default_factory=ExposureSection, description="Who bears exposure.")
    peers: Peers = Field(default_factory=Peers, description="The other services.")
    prices_ttl: timedelta = Field(
        timedelta(seconds=5),
        ge=timedelta(0),
        description="Longest time that a process uses its cached prices without reading them again.",
    )
    audit_interval: timedelta = Field(
        timedelta(minutes=1), gt=timedelta(0), description="Time between two audits of the ledger."
    )
