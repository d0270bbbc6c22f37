"""Every setting of the orchestrator. `main` reads them once and passes values on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

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
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict
from values.limits import MAX_PASSAGES

from orchestrator.batches.settings import BatchesSection
from orchestrator.jobs.settings import JobsSection
from orchestrator.limits import DisconnectPolicy, Limits
from orchestrator.pools.settings import PoolsSection
from orchestrator.queues.settings import QueuesSection
from orchestrator.response_cache.settings import ResponseCacheSection
from orchestrator.routing.model import UnknownFields
from orchestrator.upstreams.settings import UpstreamsSection
from orchestrator.webhooks.settings import WebhooksSection

Timeout = Annotated[timedelta, Field(gt=timedelta(0))]


class DatabaseSection(PostgresSection):
    """The schema `orchestration`."""

    owner_dsn: SecretStr | None = Field(
        None, description="Connection URL of the owner role; only `migrate` and `route` use it."
    )


class EventsSection(KafkaSection):
    """Kafka: usage events are published, events for webhooks consumed."""

    group: str = Field(
        "orchestrator", description="Consumer group; one per deployment. Webhooks consume as `<group>.webhooks`."
    )


class Peers(PeersSection):
    """The other services."""

    inference_worker: str = peer_address("the inference worker")
    metering: str = peer_address("metering")
    retrieval: str = peer_address("retrieval")


class ContextSection(Section):
    """Retrieved passages in prompts."""

    passages: int = Field(8, ge=1, le=MAX_PASSAGES, description="Passages to search for when a request names no limit.")
    bytes: int = Field(
        4_000, ge=200, le=1_000_000, description="The most bytes of passages in a prompt; about four bytes are a token."
    )


class TimeoutsSection(Section):
    """Timeouts of requests and of their steps."""

    default_deadline: Timeout = Field(timedelta(minutes=5), description="For a request without a deadline.")
    max_deadline: Timeout = Field(timedelta(minutes=30), description="For a request that asks for more.")
    first_byte: Timeout = Field(
        timedelta(seconds=60), description="Until a stream's first byte; then the next upstream is tried."
    )
    non_streamed: Timeout = Field(
        timedelta(minutes=4), description="For an answer that is not streamed; then the next upstream is tried."
    )
    idle: Timeout = Field(timedelta(seconds=60), description="Longest silence inside an answer.")
    reserve: Timeout = Field(timedelta(seconds=5), description="For a reservation at metering.")
    retrieval: Timeout = Field(timedelta(seconds=10), description="For a search for context.")
    abort: Timeout = Field(
        timedelta(seconds=30), description="For a worker to report the usage after its client has disconnected."
    )
    usage_write: Timeout = Field(
        timedelta(seconds=2), description="For writing the usage before an answer ends; then it is retried."
    )


class DisconnectSection(Section):
    """What happens to a provider call whose client leaves.

    `drain` reads it to its end and bills it. `abort` stops it and bills what was written; what cannot be counted then
    counts against the tenant's cap until it is reconciled.
    """

    streamed: DisconnectPolicy = Field(DisconnectPolicy.ABORT, description="For answers that are streamed.")
    non_streamed: DisconnectPolicy = Field(
        DisconnectPolicy.DRAIN,
        description="For answers that are not streamed: nothing of them can be counted before their end.",
    )


class LimitsSection(Section):
    """Concurrency and sizes."""

    in_flight: int = Field(
        4_096, ge=1, description="Requests in progress and usage events being retried, in one process."
    )
    stream_buffer_bytes: int = Field(
        262_144, ge=1, description="Bytes buffered for a slow client before its upstream waits."
    )
    plan_bytes: int = Field(
        15_000_000, ge=1, le=16_000_000, description="The most bytes of a request's bodies for all candidates."
    )
    embedding_bytes: int = Field(
        8_000_000,
        ge=1,
        le=16_000_000,
        description="The most bytes of the inputs of one embedding, or of a query and its documents to score.",
    )


class ChatSection(Section):
    """Requests for chat completions."""

    unknown_fields: UnknownFields = Field(
        UnknownFields.DROP,
        description="What happens to fields that no table knows: `drop` leaves them out with a warning, `pass` is for "
        "upstreams that are all yours. A route's candidates may say otherwise.",
    )


class Settings(ServiceSettings):
    """Settings of the orchestrator."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", frozen=True)

    postgres: DatabaseSection = Field(description="Routes, and the outbox.")
    kafka: EventsSection = Field(description="Where events are published and consumed.")
    redis: RedisSection = Field(
        default_factory=RedisSection,
        description="Cached answers, events of jobs for those who watch them, and changes of the configuration.",
    )
    grpc: GrpcSection = Field(default_factory=GrpcSection, description="The gRPC server.")
    peers: Peers = Field(description="The other services.")
    chat: ChatSection = Field(default_factory=ChatSection, description="Requests for chat completions.")
    context: ContextSection = Field(default_factory=ContextSection, description="Retrieved passages in prompts.")
    timeouts: TimeoutsSection = Field(
        default_factory=TimeoutsSection, description="Timeouts of requests and their steps."
    )
    disconnect: DisconnectSection = Field(
        default_factory=DisconnectSection, description="Provider calls whose client leaves."
    )
    limits: LimitsSection = Field(default_factory=LimitsSection, description="Concurrency and sizes.")
    jobs: JobsSection = Field(default_factory=JobsSection, description="Requests that are accepted now and run later.")
    batches: BatchesSection = Field(
        default_factory=BatchesSection, description="Files of requests that are answered within a day."
    )
    queues: QueuesSection = Field(
        default_factory=QueuesSection, description="The figures of queues, for metrics and autoscaling."
    )
    upstreams: UpstreamsSection = Field(
        default_factory=UpstreamsSection, description="Upstreams and credentials that are declared by the API."
    )
    pools: PoolsSection = Field(
        default_factory=PoolsSection, description="Pools of workers that operators make at run time, on Kubernetes."
    )
    webhooks: WebhooksSection = Field(default_factory=WebhooksSection, description="Webhooks.")
    response_cache: ResponseCacheSection = Field(
        default_factory=ResponseCacheSection, description="Answers that are given again to equal requests."
    )
    reservation_lease: timedelta = Field(
        timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="How long a reservation outlasts the request's deadline and the abort after it.",
    )
    routes_poll_interval: Timeout = Field(timedelta(seconds=5), description="Between two checks for changed routes.")
    configuration_poll_interval: timedelta = Field(
        timedelta(seconds=2),
        gt=timedelta(0),
        le=timedelta(seconds=5),
        description="Between two checks for a changed configuration that Redis did not announce.",
    )
    outbox_poll_interval: Timeout = Field(
        timedelta(seconds=15), description="Between two counts of the outbox, for its metric."
    )

    def request_limits(self) -> Limits:
        return Limits(
            default_deadline=self.timeouts.default_deadline,
            max_deadline=self.timeouts.max_deadline,
            reservation_lease=self.reservation_lease,
            first_byte_timeout=self.timeouts.first_byte,
            non_streamed_timeout=self.timeouts.non_streamed,
            idle_timeout=self.timeouts.idle,
            reserve_timeout=self.timeouts.reserve,
            retrieval_timeout=self.timeouts.retrieval,
            abort_timeout=self.timeouts.abort,
            default_passages=self.context.passages,
            max_context_bytes=self.context.bytes,
            stream_buffer_bytes=self.limits.stream_buffer_bytes,
            max_plan_bytes=self.limits.plan_bytes,
            max_embedding_bytes=self.limits.embedding_bytes,
            streamed_disconnect=self.disconnect.streamed,
            non_streamed_disconnect=self.disconnect.non_streamed,
        )
