"""Wires the gateway, and runs its command line."""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chassis.clock import Clock, SystemClock
from chassis.grpc import Channel
from chassis.http import ASGIApp, ConnectionLimits, HttpServer
from chassis.in_flight import InFlightLimit
from chassis.lifecycle import Command, Component, Service, ServiceBuilder, command_line, with_builder
from chassis.postgres import Database

from gateway.administration.main import FEATURES as CONFIGURATION_FEATURES
from gateway.administration.main import configuration_clients
from gateway.api_keys import http as api_keys_http
from gateway.api_keys.bootstrap import Bootstrap
from gateway.api_keys.cli import MINT_KEY, bootstrap_from_environment, print_new_key
from gateway.api_keys.create import CreateApiKey
from gateway.api_keys.model import ApiKeyStore
from gateway.api_keys.postgres import PostgresApiKeys
from gateway.api_keys.revoke import PublishRevocation, RevokeApiKey
from gateway.audit import http as audit_http
from gateway.audit.model import AuditLog
from gateway.audit.postgres import PostgresAuditLog
from gateway.audit.record import RecordAudit, RecordRefusal
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.auth.http import Authenticator
from gateway.auth.redis import RedisRevocations
from gateway.batches import http as batches_http
from gateway.batches.orchestrator_client import BatchesClient
from gateway.budgets import http as budgets_http
from gateway.budgets.metering_client import BudgetsClient
from gateway.declaration.main import declaration_commands
from gateway.documents.main import FEATURES as DOCUMENT_FEATURES
from gateway.documents.main import document_clients
from gateway.embeddings import http as embeddings_http
from gateway.exposures import http as exposures_http
from gateway.exposures.metering_client import ExposuresClient
from gateway.files import http as files_http
from gateway.inference.model import InferenceClient
from gateway.inference.orchestrator_client import OrchestratorClient
from gateway.jobs import http as jobs_http
from gateway.jobs.orchestrator_client import JobsClient
from gateway.metrics import IN_FLIGHT_REFUSED
from gateway.models import http as models_http
from gateway.openai_chat import http as chat_http
from gateway.projects import http as projects_http
from gateway.projects.create import CreateProject
from gateway.projects.model import ProjectStore
from gateway.projects.postgres import PostgresProjects
from gateway.rate_limits.failures import FailedAuthenticationLimiter
from gateway.rate_limits.limiter import RateLimiter
from gateway.rate_limits.memory import InMemoryRateLimitStore
from gateway.rate_limits.redis import RedisRateLimitStore
from gateway.rerank import http as rerank_http
from gateway.response_cache import http as response_cache_http
from gateway.response_cache.orchestrator_client import ResponseCacheClient
from gateway.settings import (
    HttpSection,
    InFlightSection,
    LimitsSection,
    Settings,
)
from gateway.tenants import http as tenants_http
from gateway.tenants.create import CreateTenant
from gateway.tenants.model import TenantStore
from gateway.tenants.postgres import PostgresTenants, select_tenant
from gateway.usage import http as usage_http
from gateway.usage.metering_client import UsageClient
from gateway.web.app import create_app
from gateway.web.dependencies import Dependencies
from gateway.web.middleware import Handler
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.webhooks import http as webhooks_http
from gateway.webhooks.orchestrator_client import WebhooksClient

MIGRATIONS = Path(__file__).parent / "migrations"
FEATURES = (
    models_http,
    jobs_http,
    batches_http,
    webhooks_http,
    usage_http,
    budgets_http,
    tenants_http,
    projects_http,
    api_keys_http,
    audit_http,
    exposures_http,
    response_cache_http,
    *DOCUMENT_FEATURES,
    *CONFIGURATION_FEATURES,
)


@dataclass(frozen=True, slots=True)
class Stores:
    """The schema identity."""

    tenants: TenantStore
    projects: ProjectStore
    keys: ApiKeyStore
    audit: AuditLog


@dataclass(frozen=True, slots=True)
class PeerClients:
    """The other services."""

    inference: InferenceClient
    orchestrator: Channel
    retrieval: Channel
    metering: Channel


async def build(settings: Settings, builder: ServiceBuilder) -> list[Component]:
    """Open the clients and wire the features."""
    clock, keys, peers = builder.clock, settings.keys, settings.peers
    stores = postgres_stores(await builder.database(settings.postgres, MIGRATIONS))
    api_keys = ApiKeyAuthenticator(stores.keys.find_key, clock, keys.cache_ttls(), keys.lookup_timeout)
    revocations = RedisRevocations(
        await builder.redis(settings.redis),
        clock,
        invalidate=api_keys.invalidate,
        set_channel_healthy=api_keys.set_channel_healthy,
    )
    shared_rate_limits = RedisRateLimitStore(await builder.multiplexed_redis(settings.redis))
    orchestrator = await builder.channel(peers.orchestrator, "orchestrator")
    event_streams = jobs_http.EventStreams(event_stream_limit(settings.in_flight), settings.limits.job_wait)
    app = wire_app(
        Authenticator(
            api_keys,
            builder.signer,
            FailedAuthenticationLimiter(clock, settings.rates.failed_authentications),
            settings.http.trusted_proxies,
        ),
        settings.rates.limiter(shared_rate_limits, InMemoryRateLimitStore(clock)),
        stores,
        PeerClients(
            OrchestratorClient(orchestrator),
            orchestrator=orchestrator,
            retrieval=await builder.channel(peers.retrieval, "retrieval"),
            metering=await builder.channel(peers.metering, "metering"),
        ),
        revocations.publish,
        clock=clock,
        limits=settings.limits,
        in_flight=settings.in_flight,
        env=keys.env,
        event_streams=event_streams,
    )
    http = settings.http
    server = HttpServer(app, http.host, http.port, limits=connection_limits(http))
    # The streams end before the server waits for its requests.
    return [*revocations.components(), server, event_streams]


def connection_limits(http: HttpSection) -> ConnectionLimits:
    return ConnectionLimits(**http.model_dump(exclude={"host", "port", "trusted_proxies"}))


def in_flight_limit(what: str, max_total: int, max_per_key: int) -> InFlightLimit:
    return InFlightLimit(
        what, max_total, max_per_key, on_refused=lambda scope: IN_FLIGHT_REFUSED.labels(what, scope).inc()
    )


def event_stream_limit(section: InFlightSection) -> InFlightLimit:
    return in_flight_limit("event streams", section.event_streams, section.event_streams_per_key)


def postgres_stores(database: Database) -> Stores:
    return Stores(
        PostgresTenants(database),
        PostgresProjects(database),
        PostgresApiKeys(database),
        PostgresAuditLog(database, select_tenant),
    )


def wire_app(
    authenticator: Authenticator,
    limiter: RateLimiter,
    stores: Stores,
    peers: PeerClients,
    publish_revocation: PublishRevocation,
    *,
    clock: Clock,
    limits: LimitsSection,
    in_flight: InFlightSection,
    env: str,
    event_streams: jobs_http.EventStreams,
) -> ASGIApp:
    """Make the HTTP application from its collaborators; tests pass stores in memory."""
    bodies = RequestBodies(in_flight_limit("bodies", in_flight.body_bytes, in_flight.body_bytes_per_key))
    jobs = JobsClient(peers.orchestrator)
    record_refusal = RecordRefusal(stores.audit)
    dependencies: Dependencies = {
        InferenceClient: peers.inference,
        JobsClient: jobs,
        BatchesClient: BatchesClient(peers.orchestrator),
        jobs_http.EventStreams: event_streams,
        ResponseCacheClient: ResponseCacheClient(peers.orchestrator),
        **configuration_clients(peers.orchestrator, peers.metering),
        **document_clients(peers.retrieval, limits.upload_bytes),
        UsageClient: UsageClient(peers.metering),
        WebhooksClient: WebhooksClient(peers.orchestrator),
        BudgetsClient: BudgetsClient(peers.metering),
        ExposuresClient: ExposuresClient(peers.metering),
        TenantStore: stores.tenants,
        CreateTenant: CreateTenant(stores.tenants, record_refusal, clock),
        ProjectStore: stores.projects,
        CreateProject: CreateProject(stores.projects, record_refusal, clock),
        ApiKeyStore: stores.keys,
        CreateApiKey: CreateApiKey(stores.keys, record_refusal, clock, env),
        RevokeApiKey: RevokeApiKey(stores.keys, record_refusal, publish_revocation, clock),
        AuditLog: stores.audit,
        RecordAudit: RecordAudit(stores.audit, clock),
    }
    return create_app(
        hot_routes(peers.inference, jobs, bodies, clock, limits, event_streams=event_streams),
        [feature.router for feature in FEATURES],
        dependencies,
        authenticator,
        limiter,
        bodies=bodies,
        uploads=in_flight_limit("uploads", in_flight.uploads, in_flight.uploads_per_key),
        max_body_bytes=limits.json_bytes,
        upload_path=files_http.router.prefix,
    )


def hot_routes(
    inference: InferenceClient,
    jobs: JobsClient,
    bodies: RequestBodies,
    clock: Clock,
    section: LimitsSection,
    *,
    event_streams: jobs_http.EventStreams,
) -> dict[AsgiRoute, Handler]:
    """Make the hand-written handlers. Inference endpoints make a job of a request that prefers it."""
    limits, max_bytes = section.inference_limits(), section.chat_bytes

    def or_job(handler: Handler, route: AsgiRoute) -> Handler:
        return jobs_http.RespondAsync(
            handler, route.path, jobs, limits, bodies, streams=event_streams, max_body_bytes=max_bytes
        )

    chat = chat_http.ChatCompletions(
        inference, clock, limits, bodies, max_body_bytes=max_bytes, deadline=section.deadline, beat=section.heartbeat
    )
    embeddings = embeddings_http.Embeddings(inference, bodies, max_body_bytes=max_bytes, deadline=section.deadline)
    return {
        chat_http.route_with(limits): or_job(chat, chat_http.ROUTE),
        embeddings_http.ROUTE: or_job(embeddings, embeddings_http.ROUTE),
        rerank_http.ROUTE: rerank_http.Rerank(inference, bodies, max_body_bytes=max_bytes, deadline=section.deadline),
        jobs_http.ROUTE: jobs_http.SubmitJobs(jobs, limits, bodies, max_body_bytes=max_bytes),
    }


async def bootstrap(settings: Settings, _: argparse.Namespace) -> int:
    async with Database(settings.postgres, "gateway") as database:
        stores = postgres_stores(database)
        command = Bootstrap(stores.tenants, stores.projects, stores.keys, SystemClock())
        return await bootstrap_from_environment(command, os.environ)


def main() -> NoReturn:
    if sys.argv[1:2] == [MINT_KEY]:
        sys.exit(print_new_key(sys.argv[2:]))
    command_line(
        Service(
            name="gateway",
            settings=Settings,
            build=with_builder(build),
            schema="identity",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={
                "bootstrap": Command("ensure that the first tenants and keys exist", bootstrap),
                **declaration_commands(),
            },
            description=f"The edge: REST, SSE, authentication and keys. Also: {MINT_KEY}, which prints a new key.",
        )
    )
