"""Settings of the gateway, from GATEWAY_… variables. Read in `main` alone."""

from datetime import timedelta

from chassis.settings import PeersSection, PostgresSection, RedisSection, Section, ServiceSettings, peer_address
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict
from values.limits import MAX_CHAT_BYTES

from gateway.auth.authenticate import KeyCacheTtls
from gateway.inference.limits import InferenceLimits
from gateway.rate_limits.limiter import (
    MAX_REQUESTS_PER_MINUTE,
    ClassRateLimits,
    PlanLimits,
    RateLimiter,
    RateLimitStore,
)


class HttpSection(Section):
    """The public HTTP server."""

    host: str = Field("127.0.0.1", description="Address that the public API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port that the public API listens on; 0 takes a free one.")
    max_connections: int | None = Field(
        None,
        ge=1,
        description="Open connections in all; unset takes what the limit of open files leaves, 16,384 at most.",
    )
    max_connections_per_address: int | None = Field(
        None,
        ge=0,
        description="Open connections of one IPv4 address or IPv6 /64 network; unset is a quarter of all. 0 is no "
        "limit: set it behind a proxy or load balancer, whose address all clients share.",
    )
    max_url_bytes: int = Field(8 * 1024, ge=256, description="Longest URL.")
    max_head_bytes: int = Field(32 * 1024, ge=1024, description="Largest sum of a request's headers.")
    max_headers: int = Field(128, ge=16, description="Largest number of a request's headers.")
    head_timeout: timedelta = Field(
        timedelta(seconds=15), gt=timedelta(0), description="How long a client may take to send a request's head."
    )
    body_timeout: timedelta = Field(
        timedelta(seconds=30), gt=timedelta(0), description="How long a client may take to send `min_body_bytes`."
    )
    min_body_bytes: int = Field(
        64 * 1024, ge=1, description="What an unfinished body must bring within `body_timeout`."
    )
    send_timeout: timedelta = Field(
        timedelta(seconds=60), gt=timedelta(0), description="How long a client may accept no byte of its response."
    )
    keep_alive: timedelta = Field(
        timedelta(seconds=75),
        ge=timedelta(seconds=1),
        description="How long a connection stays open between requests; longer than a proxy keeps it.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=16,
        description="Proxies in front of the gateway that append to X-Forwarded-For; 0 takes the connection's address.",
    )


class Peers(PeersSection):
    """The other services."""

    orchestrator: str = peer_address("the orchestrator", "127.0.0.1:9001")
    metering: str = peer_address("metering", "127.0.0.1:9003")
    retrieval: str = peer_address("retrieval", "127.0.0.1:9004")


class LimitsSection(Section):
    """Limits of one request."""

    chat_bytes: int = Field(
        10 * 1024 * 1024,
        ge=1024,
        le=MAX_CHAT_BYTES,
        description="Largest body of a chat completion, an embedding or a request for scores.",
    )
    json_bytes: int = Field(1024 * 1024, ge=1024, description="Largest body of any other JSON request.")
    upload_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Largest file that can be uploaded.")
    output_tokens: int = Field(131_072, ge=1, description="Largest `max_tokens` and `max_completion_tokens`.")
    messages: int = Field(10_000, ge=1, description="Largest number of messages in a conversation.")
    choices: int = Field(8, ge=1, description="Largest number of choices (`n`).")
    deadline: timedelta = Field(timedelta(minutes=10), gt=timedelta(0), description="Deadline of an inference request.")
    heartbeat: timedelta | None = Field(
        None,
        ge=timedelta(seconds=1),
        description="How often a streamed chat completion gets a comment, so that no proxy cuts it while the model "
        "thinks; unset sends none. A stream that is silent for this long gets its status 200 at once, and an error "
        "after that is an event. Set it below the shortest idle timeout on the way, such as nginx's "
        "`proxy_read_timeout` (60 s) or a load balancer's (often 60 s).",
    )

    job_wait: timedelta = Field(
        timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=5),
        description="The longest wait of `Prefer: respond-async, wait=`, before the answer is 202; 0 for none.",
    )

    def inference_limits(self) -> InferenceLimits:
        return InferenceLimits(
            max_output_tokens=self.output_tokens, max_messages=self.messages, max_choices=self.choices
        )


class InFlightSection(Section):
    """What one process holds of requests at once, so that clients cannot fill its memory."""

    body_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Bytes of request bodies, from before they are read until the answer."
    )
    body_bytes_per_key: int = Field(
        128 * 1024 * 1024, ge=1024, description="Of these, bytes of one API key; at least `GATEWAY_LIMITS__CHAT_BYTES`."
    )
    uploads: int = Field(64, ge=1, description="Uploads of files; each takes about 1 MB of memory.")
    uploads_per_key: int = Field(8, ge=1, description="Of these, uploads with one API key.")
    event_streams: int = Field(4_096, ge=1, description="Streams of the events of a job.")
    event_streams_per_key: int = Field(512, ge=1, description="Of these, streams with one API key.")

    @model_validator(mode="after")
    def _ordered(self) -> "InFlightSection":
        limits = (
            (self.body_bytes_per_key, self.body_bytes),
            (self.uploads_per_key, self.uploads),
            (self.event_streams_per_key, self.event_streams),
        )
        if any(of_key > of_all for of_key, of_all in limits):
            raise ValueError("the limit of one key must not exceed the limit of all")
        return self


class KeysSection(Section):
    """API keys: their environment, and the cache of verified keys."""

    env: str = Field("dev", pattern=r"^[a-z][a-z0-9]{0,15}$", description="Environment in new API keys: argosy_<env>_…")
    cache_ttl: timedelta = Field(
        timedelta(seconds=30), description="Key-cache TTL while revocations are received over Redis."
    )
    cache_ttl_degraded: timedelta = Field(
        timedelta(milliseconds=250),
        le=timedelta(seconds=1),
        description="Key-cache TTL while the revocation channel is down; at most 1 s, the bound on revocation.",
    )
    max_stale: timedelta = Field(
        timedelta(hours=1), description="How long a verified key is accepted while Postgres does not answer."
    )
    negative_ttl: timedelta = Field(timedelta(seconds=5), description="How long a rejected key is cached.")
    cache_size: int = Field(100_000, ge=1, description="Largest number of cached keys, and of cached rejections.")
    lookup_timeout: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Timeout of looking a key up in Postgres."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "KeysSection":
        if not self.cache_ttl_degraded <= self.cache_ttl <= self.max_stale:
            raise ValueError("cache_ttl_degraded must not exceed cache_ttl, and cache_ttl must not exceed max_stale")
        return self

    def cache_ttls(self) -> KeyCacheTtls:
        return KeyCacheTtls(
            ttl=self.cache_ttl,
            ttl_degraded=self.cache_ttl_degraded,
            max_stale=self.max_stale,
            negative_ttl=self.negative_ttl,
            size=self.cache_size,
        )


TENANT_RATE = "Requests per minute of a tenant with all its keys; 0 is unlimited."


class ClassRates(Section):
    """Requests per minute of one class; 0 is unlimited."""

    key: int = Field(0, ge=0, le=MAX_REQUESTS_PER_MINUTE, description="Requests per minute of one key; 0 is unlimited.")
    tenant: int = Field(0, ge=0, le=MAX_REQUESTS_PER_MINUTE, description=TENANT_RATE)

    def limits(self) -> ClassRateLimits:
        return ClassRateLimits(key=self.key, tenant=self.tenant)


class InferenceRates(ClassRates):
    """Chat completions, embeddings and scores."""

    tenant: int = Field(600_000, ge=0, le=MAX_REQUESTS_PER_MINUTE, description=TENANT_RATE)


class ReadRates(ClassRates):
    """GET, and searches of vector stores."""

    tenant: int = Field(60_000, ge=0, le=MAX_REQUESTS_PER_MINUTE, description=TENANT_RATE)


class WriteRates(ClassRates):
    """POST, PUT, PATCH and DELETE, also of administrators."""

    tenant: int = Field(6_000, ge=0, le=MAX_REQUESTS_PER_MINUTE, description=TENANT_RATE)


class UploadRates(ClassRates):
    """Uploads of files."""

    tenant: int = Field(3_000, ge=0, le=MAX_REQUESTS_PER_MINUTE, description=TENANT_RATE)


class PlanRates(Section):
    """Requests per minute that a plan allows, by class."""

    inference: InferenceRates = Field(
        default_factory=InferenceRates, description="Chat completions, embeddings and scores."
    )
    reads: ReadRates = Field(default_factory=ReadRates, description="GET, and searches of vector stores.")
    writes: WriteRates = Field(default_factory=WriteRates, description="POST, PUT and DELETE, also of administrators.")
    uploads: UploadRates = Field(default_factory=UploadRates, description="Uploads of files.")

    def limits(self) -> PlanLimits:
        return {
            "inference": self.inference.limits(),
            "reads": self.reads.limits(),
            "writes": self.writes.limits(),
            "uploads": self.uploads.limits(),
        }


class RatesSection(Section):
    """Rate limits, counted in Redis; while it does not answer, by each replica alone."""

    default: PlanRates = Field(default_factory=PlanRates, description="For plans that are not named.")
    plans: dict[str, PlanRates] = Field(default_factory=dict, description="By the name of a tenant's plan.")
    replicas: int = Field(
        1, ge=1, description="Gateways that share the limits; each allows its share while Redis does not answer."
    )
    failed_authentications: int = Field(
        300,
        ge=0,
        le=MAX_REQUESTS_PER_MINUTE,
        description="Requests without a valid key per minute and address (IPv6: /64), in each gateway; 0 is unlimited.",
    )

    def limiter(self, shared: RateLimitStore, local: RateLimitStore) -> RateLimiter:
        return RateLimiter(
            {name: plan.limits() for name, plan in self.plans.items()},
            self.default.limits(),
            shared=shared,
            local=local,
            replicas=self.replicas,
        )


class Settings(ServiceSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", env_nested_delimiter="__", frozen=True)

    http: HttpSection = Field(default_factory=HttpSection, description="The public HTTP server.")
    postgres: PostgresSection = Field(description="The schema identity.")
    redis: RedisSection = Field(default_factory=RedisSection, description="Revocations and rate limits.")
    peers: Peers = Field(default_factory=Peers, description="The other services.")
    limits: LimitsSection = Field(default_factory=LimitsSection, description="Limits of one request.")
    in_flight: InFlightSection = Field(default_factory=InFlightSection, description="Limits of all requests at once.")
    rates: RatesSection = Field(default_factory=RatesSection, description="Rate limits of plans.")
    keys: KeysSection = Field(default_factory=KeysSection, description="API keys.")

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        largest = max(self.limits.chat_bytes, self.limits.json_bytes)
        if self.in_flight.body_bytes_per_key < largest:
            raise ValueError(f"in_flight.body_bytes_per_key must be at least the largest body, {largest} bytes")
        return self
