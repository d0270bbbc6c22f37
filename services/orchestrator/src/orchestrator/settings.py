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
from chassis.settings.addresses import check_addresses
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict
from values.limits import MAX_PASSAGES

from orchestrator.batches.create import BatchLimits
from orchestrator.batches.lines import FileLimits
from orchestrator.jobs.model import Lane
from orchestrator.jobs.policy import JobIntervals, JobPlan, JobPolicy
from orchestrator.limits import DisconnectPolicy, Limits
from orchestrator.routing.model import UnknownFields
from orchestrator.webhooks.settings import WebhooksSection

MAX_RETENTION_DAYS = 365
"""A partition a day: more of them make each insertion slower to plan."""

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
        8_000_000, ge=1, le=16_000_000, description="The most bytes of the inputs of one embedding."
    )


class ChatSection(Section):
    """Requests for chat completions."""

    unknown_fields: UnknownFields = Field(
        UnknownFields.DROP,
        description="What happens to fields that no table knows: `drop` leaves them out with a warning, `pass` is for "
        "upstreams that are all yours. A route's candidates may say otherwise.",
    )


class JobPlanSection(Section):
    """What the jobs of a plan get."""

    lane: Lane = Field(Lane.STANDARD, description="Its lane, which a job may lower: interactive, standard or batch.")
    pool: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Whose workers run its jobs; part of topic names."
    )
    retention_days: int = Field(30, ge=1, le=MAX_RETENTION_DAYS, description="Days for which results are kept.")
    max_queued: int = Field(100_000, ge=1, description="The most jobs of one tenant that wait at a time.")


class JobsSection(Section):
    """Jobs: requests that are accepted now and run later."""

    plans: dict[str, JobPlanSection] = Field(
        {},
        description="By plan, as JSON: lane, pool, retention_days, max_queued. The plan `default` is for all other "
        "tenants.",
    )
    max_body_bytes: int = Field(1_000_000, ge=1, le=15_000_000, description="The most bytes of a job's body.")
    default_deadline: Timeout = Field(timedelta(hours=24), description="Until a job without a deadline fails.")
    max_deadline: Timeout = Field(timedelta(days=7), description="The longest that a client may ask for.")
    lease: Timeout = Field(
        timedelta(seconds=15),
        description="Without a heartbeat for so long, a worker counts as dead, and its jobs run again.",
    )
    claim_within: Timeout = Field(
        timedelta(seconds=30),
        description="A job that no worker has claimed so long after its dispatch is queued again.",
    )
    run_timeout: Timeout = Field(timedelta(minutes=30), description="For one run, over all its provider calls.")
    answer_timeout: Timeout = Field(
        timedelta(minutes=15), description="For an answer that is not streamed; then the next upstream is tried."
    )
    max_errors: int = Field(5, ge=1, le=100, description="Runs that fail before a job fails.")
    max_crashes: int = Field(3, ge=1, le=100, description="Workers that die before a job is quarantined.")
    min_backoff: Timeout = Field(timedelta(seconds=1), description="The longest pause after a job's first error.")
    max_backoff: Timeout = Field(
        timedelta(minutes=5), description="The longest pause after any; it doubles until then."
    )
    poll_interval: Timeout = Field(
        timedelta(milliseconds=500), description="Between two dispatches that nothing has asked for."
    )
    reap_interval: Timeout = Field(timedelta(seconds=5), description="Between two searches for dead runs.")
    partition_interval: Timeout = Field(
        timedelta(hours=1), description="Between two checks for partitions of results to make or to drop."
    )

    events_ttl: timedelta = Field(
        timedelta(hours=1),
        ge=timedelta(seconds=10),
        description="How long the events of a job are kept in Redis after the last of them; after its end, 5 minutes.",
    )

    def policy(self, batch_discount_percent: int = 0) -> JobPolicy:
        plans = {
            name.lower(): JobPlan(plan.lane, plan.pool, timedelta(days=plan.retention_days), plan.max_queued)
            for name, plan in self.plans.items()
        }
        return JobPolicy(
            plans=plans,
            default_plan=plans.get("default", JobPlan()),
            max_body_bytes=self.max_body_bytes,
            default_deadline=self.default_deadline,
            max_deadline=self.max_deadline,
            lease=self.lease,
            claim_within=self.claim_within,
            run_timeout=self.run_timeout,
            answer_timeout=self.answer_timeout,
            max_errors=self.max_errors,
            max_crashes=self.max_crashes,
            min_backoff=self.min_backoff,
            max_backoff=self.max_backoff,
            batch_discount_percent=batch_discount_percent,
        )

    def intervals(self) -> JobIntervals:
        days = max(plan.retention_days for plan in (JobPlanSection(), *self.plans.values()))
        return JobIntervals(
            poll=self.poll_interval, reap=self.reap_interval, partitions=self.partition_interval, days_ahead=days + 3
        )


class BatchesSection(Section):
    """Batches: files of requests that are answered within a day."""

    max_lines: int = Field(100_000, ge=1, le=1_000_000, description="The most requests of one batch.")
    max_line_bytes: int = Field(1_000_000, ge=1_000, le=15_000_000, description="The most bytes of one line.")
    max_file_bytes: int = Field(200_000_000, ge=1_000, description="The most bytes of a batch's file.")
    max_unfinished: int = Field(100, ge=1, description="The most batches of one tenant that are not final.")
    discount_percent: int = Field(
        0,
        ge=0,
        le=99,
        description="What is taken off the prices of requests in batches; the ledger names the discounted price.",
    )
    poll_interval: Timeout = Field(timedelta(milliseconds=500), description="Between two searches for due batches.")

    def batch_limits(self) -> BatchLimits:
        file = FileLimits(lines=self.max_lines, line_bytes=self.max_line_bytes)
        return BatchLimits(file, self.max_file_bytes, self.max_unfinished)


class QueuesSection(Section):
    """The figures of queues, for metrics and autoscaling."""

    interval: timedelta = Field(
        timedelta(seconds=3),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=30),
        description="Between two reads of all queues from Postgres.",
    )
    scaler_bind: str | None = Field(
        None,
        description="Address that KEDA's external scaler is served on: `host:port`; unset: not served. Its calls are "
        "not authenticated: they read queue lengths, and nothing else is served there.",
    )

    @field_validator("scaler_bind")
    @classmethod
    def _check_bind(cls, value: str | None) -> str | None:
        if value is not None:
            check_addresses(value)
        return value


class Settings(ServiceSettings):
    """Settings of the orchestrator."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", frozen=True)

    postgres: DatabaseSection = Field(description="Routes, and the outbox.")
    kafka: EventsSection = Field(description="Where events are published and consumed.")
    redis: RedisSection = Field(default_factory=RedisSection, description="Events of jobs, for those who watch them.")
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
    webhooks: WebhooksSection = Field(default_factory=WebhooksSection, description="Webhooks.")
    reservation_lease: timedelta = Field(
        timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="How long a reservation outlasts the request's deadline and the abort after it.",
    )
    routes_poll_interval: Timeout = Field(timedelta(seconds=5), description="Between two checks for changed routes.")
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
