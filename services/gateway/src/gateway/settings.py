"""Settings of the gateway, from GATEWAY_… variables. Read in `main` alone."""

from datetime import timedelta

from chassis.settings import GrpcSection, PostgresSection, RedisSection, Section, ServiceSettings
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.domain.rates import MOST_PER_MINUTE

MOST_CHAT_BYTES = 15 * 1024 * 1024  # with the frame around it, it has to fit into one gRPC message of 16 MiB


class HttpSection(Section):
    """The public HTTP server."""

    host: str = Field("127.0.0.1", description="Address that the public API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port that the public API listens on; 0 takes a free one.")


class PeersSection(Section):
    """Where the other services are."""

    orchestrator: str = Field("127.0.0.1:9001", description="gRPC address of the orchestrator: `host:port`.")
    metering: str = Field("127.0.0.1:9003", description="gRPC address of metering: `host:port`.")
    retrieval: str = Field("127.0.0.1:9004", description="gRPC address of retrieval: `host:port`.")


class LimitsSection(Section):
    """How much of everything a request may take."""

    chat_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, le=MOST_CHAT_BYTES, description="Largest body of a chat completion or embedding."
    )
    json_bytes: int = Field(1024 * 1024, ge=1024, description="Largest body of any other JSON request.")
    upload_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Largest file that can be uploaded.")
    output_tokens: int = Field(131_072, ge=1, description="Most tokens that a request may ask to be written.")
    messages: int = Field(10_000, ge=1, description="Most messages in a conversation.")
    choices: int = Field(8, ge=1, description="Most answers that one request may ask for (`n`).")
    deadline: timedelta = Field(
        timedelta(minutes=10), gt=timedelta(0), description="Time that an inference request has, in all."
    )


class KeysSection(Section):
    """API keys: how they are minted, and for how long memory is believed."""

    env: str = Field(
        "dev", pattern=r"^[a-z][a-z0-9]{0,15}$", description="Environment that new keys are marked with: argosy_<env>_…"
    )
    heard: timedelta = Field(
        timedelta(seconds=30), description="How long a key is trusted while revocations are heard over Redis."
    )
    unheard: timedelta = Field(
        timedelta(milliseconds=250),
        le=timedelta(seconds=1),
        description="How long a key is trusted while they are not; a second at most, for revoking takes no longer.",
    )
    stale: timedelta = Field(
        timedelta(hours=1), description="How long a key that was seen before is trusted while Postgres does not answer."
    )
    refused: timedelta = Field(timedelta(seconds=5), description="How long a refusal is remembered.")
    capacity: int = Field(100_000, ge=1, description="Most keys remembered, and most refusals.")
    look_up: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Time that looking a key up in Postgres has."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "KeysSection":
        if not self.unheard <= self.heard <= self.stale:
            raise ValueError("unheard must not exceed heard, and heard must not exceed stale")
        return self


class PlanRates(Section):
    """Requests per minute that a plan allows to the hot routes; 0 is as many as they like."""

    key: int = Field(0, ge=0, le=MOST_PER_MINUTE, description="Requests per minute of one key; 0 is without limit.")
    tenant: int = Field(
        600_000, ge=0, le=MOST_PER_MINUTE, description="Requests per minute of a tenant, all keys; 0 is without limit."
    )


class RatesSection(Section):
    """How many requests a minute are let in. Counted in Redis; while it does not answer, by each replica for itself."""

    default: PlanRates = Field(default_factory=PlanRates, description="For plans that are not named.")
    plans: dict[str, PlanRates] = Field(default_factory=dict, description="By the name of a tenant's plan.")
    replicas: int = Field(
        1, ge=1, description="Gateways that share the limits: each allows its part while they cannot count together."
    )


class Settings(ServiceSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", env_nested_delimiter="__", frozen=True)

    http: HttpSection = Field(default_factory=HttpSection, description="The public HTTP server.")
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    postgres: PostgresSection = Field(description="The schema identity.")
    redis: RedisSection = Field(default_factory=RedisSection, description="Revocations are heard here, rates counted.")
    peers: PeersSection = Field(default_factory=PeersSection, description="Where the other services are.")
    limits: LimitsSection = Field(default_factory=LimitsSection, description="How much a request may take.")
    rates: RatesSection = Field(default_factory=RatesSection, description="How many requests a minute are let in.")
    keys: KeysSection = Field(default_factory=KeysSection, description="API keys.")
