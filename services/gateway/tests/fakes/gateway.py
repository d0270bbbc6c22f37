"""The gateway's HTTP application over stores in memory, with keys for it."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from argosy.metering.v1.metering_pb2_grpc import add_MeteringServiceServicer_to_server
from argosy.orchestration.v1.batches_pb2_grpc import add_BatchServiceServicer_to_server
from argosy.orchestration.v1.cache_pb2_grpc import add_ResponseCacheServiceServicer_to_server
from argosy.orchestration.v1.configuration_pb2_grpc import add_ConfigurationServiceServicer_to_server
from argosy.orchestration.v1.flags_pb2_grpc import add_FlagServiceServicer_to_server
from argosy.orchestration.v1.jobs_pb2_grpc import (
    add_JobServiceServicer_to_server,
    add_QueueServiceServicer_to_server,
)
from argosy.orchestration.v1.pools_pb2_grpc import add_PoolServiceServicer_to_server
from argosy.orchestration.v1.routes_pb2_grpc import add_RouteServiceServicer_to_server
from argosy.orchestration.v1.upstreams_pb2_grpc import add_UpstreamServiceServicer_to_server
from argosy.orchestration.v1.webhooks_pb2_grpc import add_WebhookServiceServicer_to_server
from argosy.retrieval.v1.retrieval_pb2_grpc import add_RetrievalServiceServicer_to_server
from chassis.http import ASGIApp
from chassis.testing import FakeClock, a_signer, a_verifier
from chassis.testing.grpc import serving
from gateway.api_keys.bootstrap import Bootstrap
from gateway.auth.api_key import mint_key
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.auth.http import Authenticator
from gateway.jobs.http import EventStreams
from gateway.main import PeerClients, Stores, event_stream_limit, wire_app
from gateway.rate_limits.failures import FailedAuthenticationLimiter
from gateway.rate_limits.limiter import ClassRateLimits, PlanLimits, RateLimiter
from gateway.rate_limits.memory import InMemoryRateLimitStore
from gateway.settings import InFlightSection, LimitsSection
from prometheus_client import REGISTRY

from services.gateway.tests.fakes.api_keys import TTLS
from services.gateway.tests.fakes.batches import FakeBatches
from services.gateway.tests.fakes.flags import FakeFlags
from services.gateway.tests.fakes.identity_store import FakeIdentityStore
from services.gateway.tests.fakes.inference import FakeInference
from services.gateway.tests.fakes.jobs import FakeJobs, FakeQueues
from services.gateway.tests.fakes.metering import FakeMetering
from services.gateway.tests.fakes.pools import FakePools
from services.gateway.tests.fakes.rate_limits import FakeRateLimitStore
from services.gateway.tests.fakes.response_cache import FakeResponseCache
from services.gateway.tests.fakes.retrieval import FakeRetrieval
from services.gateway.tests.fakes.routes import FakeRoutes
from services.gateway.tests.fakes.upstreams import FakeConfigurationLog, FakeUpstreams
from services.gateway.tests.fakes.webhooks import FakeWebhooks

UNLIMITED = ClassRateLimits()
MAX_CHAT_BYTES, MAX_UPLOAD_BYTES = 4096, 1000
LIMITS = LimitsSection(
    chat_bytes=MAX_CHAT_BYTES,
    json_bytes=2048,
    upload_bytes=MAX_UPLOAD_BYTES,
    output_tokens=1_000,
    messages=5,
    choices=2,
)

IN_FLIGHT = InFlightSection()


@dataclass
class GatewayFixture:
    """The application, and everything behind it that a test sets or reads."""

    app: ASGIApp
    clock: FakeClock
    identity: FakeIdentityStore
    published_revocations: list[str]
    inference: FakeInference
    retrieval: FakeRetrieval
    metering: FakeMetering
    jobs: FakeJobs
    queues: FakeQueues
    pools: FakePools
    batches: FakeBatches
    event_streams: EventStreams
    webhooks: FakeWebhooks
    rate_limits: FakeRateLimitStore
    flags: FakeFlags
    upstreams: FakeUpstreams
    routes: FakeRoutes
    configuration: FakeConfigurationLog
    response_cache: FakeResponseCache
    keys: dict[str, str] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def client(self, tenant: str | None = "demo") -> AsyncIterator[httpx.AsyncClient]:
        """A client with the key of a tenant, or without a key."""
        headers = {"authorization": f"Bearer {self.keys[tenant]}"} if tenant else {}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield client


def of_all_classes(limits: ClassRateLimits) -> PlanLimits:
    """The same limits, with buckets of their own, for each class of requests."""
    return {"inference": limits, "reads": limits, "writes": limits, "uploads": limits}


@asynccontextmanager
async def run_gateway(
    default: ClassRateLimits = UNLIMITED,
    *,
    failed_authentications: int = 0,
    limits: LimitsSection = LIMITS,
    in_flight: InFlightSection = IN_FLIGHT,
    heartbeat_seconds: float = 15,
) -> AsyncIterator[GatewayFixture]:
    """A gateway, one of two replicas, with the tenants demo, other, third and platform. `default` limits all plans."""
    clock, identity = FakeClock(), FakeIdentityStore()
    api_keys = ApiKeyAuthenticator(identity.find_key, clock, TTLS, lookup_timeout=timedelta(seconds=20))
    api_keys.set_channel_healthy(True)
    published: list[str] = []

    async def publish(key_id: str) -> None:
        published.append(key_id)
        api_keys.invalidate(key_id)

    inference, retrieval, metering = FakeInference(), FakeRetrieval(), FakeMetering()
    jobs, pools, batches = FakeJobs(), FakePools(), FakeBatches()
    queues = FakeQueues(jobs)
    event_streams = EventStreams(event_stream_limit(in_flight), limits.job_wait, heartbeat_seconds)
    webhooks, flags, upstreams, routes = FakeWebhooks(), FakeFlags(), FakeUpstreams(), FakeRoutes()
    configuration, response_cache = FakeConfigurationLog(), FakeResponseCache()
    rate_limits = FakeRateLimitStore(clock)
    limiter = RateLimiter(
        {}, of_all_classes(default), shared=rate_limits, local=InMemoryRateLimitStore(clock), replicas=2
    )
    async with serving(
        (add_RetrievalServiceServicer_to_server, retrieval, "argosy.retrieval.v1.RetrievalService"),
        (add_MeteringServiceServicer_to_server, metering, "argosy.metering.v1.MeteringService"),
        (add_JobServiceServicer_to_server, jobs, "argosy.orchestration.v1.JobService"),
        (add_QueueServiceServicer_to_server, queues, "argosy.orchestration.v1.QueueService"),
        (add_PoolServiceServicer_to_server, pools, "argosy.orchestration.v1.PoolService"),
        (add_BatchServiceServicer_to_server, batches, "argosy.orchestration.v1.BatchService"),
        (add_FlagServiceServicer_to_server, flags, "argosy.orchestration.v1.FlagService"),
        (add_UpstreamServiceServicer_to_server, upstreams, "argosy.orchestration.v1.UpstreamService"),
        (add_RouteServiceServicer_to_server, routes, "argosy.orchestration.v1.RouteService"),
        (add_ConfigurationServiceServicer_to_server, configuration, "argosy.orchestration.v1.ConfigurationService"),
        (add_ResponseCacheServiceServicer_to_server, response_cache, "argosy.orchestration.v1.ResponseCacheService"),
        (add_WebhookServiceServicer_to_server, webhooks, "argosy.orchestration.v1.WebhookService"),
        verifier=a_verifier(clock),
    ) as channel:
        app = wire_app(
            Authenticator(api_keys, a_signer(clock), FailedAuthenticationLimiter(clock, failed_authentications)),
            limiter,
            Stores(identity, identity, identity, identity),
            PeerClients(inference, orchestrator=channel, retrieval=channel, metering=channel),
            publish,
            clock=clock,
            limits=limits,
            in_flight=in_flight,
            env="test",
            event_streams=event_streams,
        )
        made = (inference, retrieval, metering, jobs, queues, pools, batches, event_streams, webhooks, rate_limits)
        operated = (flags, upstreams, routes, configuration, response_cache)
        gateway = GatewayFixture(app, clock, identity, published, *made, *operated)
        await add_tenants(gateway)
        yield gateway


async def add_tenants(gateway: GatewayFixture) -> None:
    bootstrap = Bootstrap(gateway.identity, gateway.identity, gateway.identity, gateway.clock)
    tenants = (("demo", {"member"}), ("other", {"member"}), ("third", {"member"}), ("platform", {"platform_admin"}))
    for tenant, roles in tenants:
        _, gateway.keys[tenant] = mint_key("test")
        gateway.tenants[tenant] = (await bootstrap.ensure(tenant, gateway.keys[tenant], roles)).tenant_id


class RawRequest:
    """One ASGI request: the test decides when the client reads, and when it disconnects."""

    def __init__(
        self,
        gateway: GatewayFixture,
        path: str,
        body: bytes,
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self._disconnected = asyncio.Event()
        self._incoming: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        all_headers = {"authorization": f"Bearer {gateway.keys['demo']}"} | (headers or {})
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }
        self.task: asyncio.Task[None] = asyncio.create_task(self._run(gateway.app, scope))

    def set_body(self, *chunks: bytes, more: bool = True) -> None:
        """Send the body in chunks; call it before the first turn of the loop."""
        self._incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        if not more:
            self._incoming[-1]["more_body"] = False

    @property
    def unread(self) -> bool:
        """Whether the application has not read the body."""
        return bool(self._incoming)

    def disconnect(self) -> None:
        """Close the connection."""
        self._disconnected.set()

    async def next_message(self) -> MutableMapping[str, Any]:
        """The next ASGI message of the server."""
        async with asyncio.timeout(30):
            return await self.sent.get()

    async def remaining_body(self) -> bytes:
        """The rest of the response."""
        read = bytearray()
        while True:
            message = await self.next_message()
            read += message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self.task
                return bytes(read)

    async def _run(self, app: ASGIApp, scope: MutableMapping[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.reading.wait()
        await self.sent.put(message)


async def run_loop(turns: int = 20) -> None:
    """Let the loop run everything that is ready."""
    for _ in range(turns):
        await asyncio.sleep(0)


def metric(name: str, **labels: str) -> float:
    """The value of a metric; 0 before its first change."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
