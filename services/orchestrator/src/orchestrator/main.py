"""Wires the orchestrator."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from chassis.aio import periodic
from chassis.errors import ArgosyError
from chassis.grpc import Channel, Registration
from chassis.kafka import OutboxRelay
from chassis.lifecycle import Check, Command, Component, Loop, Service, ServiceBuilder, command_line, with_builder
from chassis.postgres import Database
from chassis.telemetry import logger

from orchestrator.administration.main import Administration, build_administration, edit_routes, reseal
from orchestrator.autoscaling.grpc import ScalerServer, ScalerServicer
from orchestrator.background_tasks import BackgroundTasks
from orchestrator.batches.main import build_batches
from orchestrator.batches.postgres import BATCH_FINISHED
from orchestrator.chat.generate import ChatCompletions
from orchestrator.chat.infer import Disconnects
from orchestrator.context.retrieval_client import GrpcRetrievalClient
from orchestrator.embeddings.embed import Embeddings
from orchestrator.grpc import OrchestrationServicer, registration
from orchestrator.jobs.events.main import JobEvents, build_job_events
from orchestrator.jobs.main import Jobs, Shared, build_jobs
from orchestrator.jobs.outbox import JOB_FINISHED
from orchestrator.metrics import DETACHED, IN_FLIGHT, ROUTES_AGE_SECONDS, USAGE_RETRYING
from orchestrator.pools.main import build_pools
from orchestrator.queues.main import Queues, build_queues
from orchestrator.rerank.rerank import Reranks
from orchestrator.reservations.metering_client import GrpcMeteringClient
from orchestrator.reservations.reserve import Reservations
from orchestrator.response_cache.grpc import registration as response_cache_registration
from orchestrator.response_cache.main import build_response_cache
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.cli import HELP, add_route_arguments
from orchestrator.routing.schedule import refresh_once, refresh_routes
from orchestrator.settings import Settings
from orchestrator.topics.cli import HELP as TOPICS_HELP
from orchestrator.topics.cli import add_topics_arguments, create_topics
from orchestrator.upstreams.cli import HELP as RESEAL_HELP
from orchestrator.usage.outbox import HITS_RECORDED, USAGE_RECORDED, CoalescedCall, PostgresUsageOutbox
from orchestrator.usage.record import UsageRecorder
from orchestrator.webhooks.main import build_webhooks, reseal_secrets
from orchestrator.workers.worker_client import GrpcWorkerClient

MIGRATIONS = Path(__file__).parent / "migrations"

# Share of the drain for running calls; the rest is for aborted calls' usage and a last outbox flush.
CALLS_SHARE_OF_DRAIN = 0.6

# Events of this time are published, and settled by metering, in one batch; no request waits for a settlement.
PUBLISH_DELAY = timedelta(milliseconds=100)

log = logger("orchestrator")


async def build(settings: Settings, service: ServiceBuilder) -> Sequence[Component]:
    """Open the clients and return the components.

    Components stop in reverse order: the server first, then the background tasks that calls left behind, then the
    relay, which publishes what those wrote.
    """
    clock, limits, peers = service.clock, settings.request_limits(), settings.peers
    grace = settings.drain * CALLS_SHARE_OF_DRAIN
    database = await service.database(settings.postgres, MIGRATIONS)
    relay = OutboxRelay(database, await service.publisher(settings.kafka))
    worker_channel = await service.channel(peers.inference_worker, "the inference worker")
    metering_channel = await service.channel(peers.metering, "metering")
    worker, metering = GrpcWorkerClient(worker_channel), GrpcMeteringClient(metering_channel, service.signer)
    retrieval_channel = await service.channel(peers.retrieval, "retrieval")
    retrieval = GrpcRetrievalClient(retrieval_channel)
    on_written = CoalescedCall(relay.wake, PUBLISH_DELAY)
    outbox = PostgresUsageOutbox(database, on_written=on_written)
    tasks = BackgroundTasks(settings.limits.in_flight, lambda error: log.error("task_failed", exc_info=error))
    recorder = UsageRecorder(outbox, tasks, settings.timeouts.usage_write)
    disconnects = Disconnects(limits)
    operated = await _administration(settings, service, database, worker_channel, metering_channel)
    routes = operated.routes
    reservations = Reservations(metering=metering, recorder=recorder, tasks=tasks, limits=limits)
    stores: dict[str, Any] = {"database": database, "relay": relay, "on_written": on_written, "recorder": recorder}
    peers_of_jobs: dict[str, Any] = {"retrieval": retrieval, "reservations": reservations, "signer": service.signer}
    shared = Shared(**stores, **peers_of_jobs, routes=routes, tasks=tasks, clock=clock, flags=operated.flags)
    inference, purges = await _inference(
        settings, service, shared, worker, disconnects, retrieval=retrieval_channel, outbox=outbox
    )
    events, jobs, queues = await _jobs(settings, service, shared)
    webhooks = await build_webhooks(settings.webhooks, settings.kafka, service, database)
    scaling = await _scaling(settings, service, database, queues)
    servicer = OrchestrationServicer(
        **inference, flags=operated.flags, routes=routes, tasks=tasks, outbox=outbox, jobs=jobs.store
    )
    batches = build_batches(shared, retrieval_channel, jobs, settings.batches)
    registrations = (*jobs.registrations, *scaling.registrations, batches.registration, webhooks.registration, purges)
    registrations = (registration(servicer), *operated.registrations, *registrations)
    _set_gauges(tasks, recorder, routes)
    await _load_routes(routes)
    return [
        service.topics(settings.kafka, USAGE_RECORDED, HITS_RECORDED, JOB_FINISHED, BATCH_FINISHED),
        relay,
        Loop("outbox-count", periodic(settings.outbox_poll_interval, outbox.update_gauge, "outbox-count")),
        Loop("route-refresh", refresh_routes(routes, settings.routes_poll_interval)),
        Check("routes", _routes_loaded(routes)),
        *operated.components,
        *events.components,
        *jobs.loops,
        batches,
        *scaling.components,
        *webhooks.components,
        Drain(tasks, disconnects),
        service.grpc_server(settings.grpc, *registrations, grace=grace),
        DrainMark(disconnects),
        events.stop_watches,
        jobs.connections,
        operated.stop_watches,
    ]


async def _administration(
    settings: Settings, service: ServiceBuilder, database: Database, worker: Channel, metering: Channel
) -> Administration:
    """Make what operators change while the service runs."""
    return await build_administration(
        service,
        database,
        worker,
        metering,
        redis=settings.redis,
        upstreams=settings.upstreams,
        poll_interval=settings.configuration_poll_interval,
    )


async def _jobs(settings: Settings, service: ServiceBuilder, shared: Shared) -> tuple[JobEvents, Jobs, Queues]:
    """Make the engine of jobs, what its watchers see, and what operators do."""
    events = await build_job_events(service, shared.database, settings.redis, settings.jobs.events_ttl)
    jobs = build_jobs(
        shared,
        policy=settings.jobs.policy(settings.batches.discount_percent),
        intervals=settings.jobs.intervals(),
        limits=settings.request_limits(),
        unknown_fields=settings.chat.unknown_fields,
        signals=events.signals,
        watch=events.watch,
        push=events.push,
    )
    queues = build_queues(
        shared.database,
        jobs.reader,
        jobs.cancellations,
        shared.clock,
        interval=settings.queues.interval,
        on_resumed=jobs.cancellations.on_queued,
    )
    return events, jobs, queues


class Scaling(NamedTuple):
    """What operators and autoscalers do with queues and pools."""

    registrations: Sequence[Registration]
    components: Sequence[Component]


async def _scaling(settings: Settings, service: ServiceBuilder, database: Database, queues: Queues) -> Scaling:
    """Make the pools of run time, and KEDA's external scaler, if it has an address."""
    pools = await build_pools(settings.pools, settings.kafka, service, database)
    section, scalers = settings.queues, list[Component]()
    if section.scaler_bind is not None:
        scalers.append(ScalerServer(section.scaler_bind, ScalerServicer(queues.figures, section.interval)))
    return Scaling((*queues.registrations, pools.registration), (queues.refresh, *scalers, *pools.components))


async def _inference(
    settings: Settings,
    service: ServiceBuilder,
    shared: Shared,
    worker: GrpcWorkerClient,
    disconnects: Disconnects,
    *,
    retrieval: Channel,
    outbox: PostgresUsageOutbox,
) -> tuple[dict[str, Any], Registration]:
    """Make the use cases whose clients wait, with their cache, and the service that purges it."""
    cache, servicer = await build_response_cache(
        settings.response_cache,
        settings.redis,
        service,
        retrieval,
        reservations=shared.reservations,
        recorder=shared.recorder,
        outbox=outbox,
        tasks=shared.tasks,
    )
    common: dict[str, Any] = {
        "routes": shared.routes,
        "reservations": shared.reservations,
        "worker": worker,
        "recorder": shared.recorder,
        "tasks": shared.tasks,
        "clock": shared.clock,
        "limits": settings.request_limits(),
        "flags": shared.flags,
    }
    chat: dict[str, Any] = {"retrieval": shared.retrieval, "disconnects": disconnects, "cache": cache}
    completions = ChatCompletions(unknown_fields=settings.chat.unknown_fields, **chat, **common)
    inference = {"completions": completions, "embeddings": Embeddings(**common), "reranks": Reranks(**common)}
    return inference, response_cache_registration(servicer)


async def _load_routes(routes: RouteCache) -> None:
    # Peers call as soon as the port is open. When the routes cannot be read now, the loop retries.
    with suppress(ArgosyError):
        await refresh_once(routes)


class Drain:
    """Waits at shutdown for the background tasks: plans of disconnected clients, and usage not written yet."""

    name = "drain"

    def __init__(self, tasks: BackgroundTasks, disconnects: Disconnects) -> None:
        self._tasks = tasks
        self._disconnects = disconnects

    async def start(self) -> None:
        """Do nothing: requests start the tasks."""

    async def stop(self) -> None:
        """Abort what drains, and wait for all tasks. What the lifecycle cancels ends with its reservation's lease."""
        self._disconnects.abort_all()
        await self._tasks.wait_idle()


class DrainMark:
    """Marks the start of the drain, before the server ends its calls: those look as if their clients had left."""

    name = "drain-mark"

    def __init__(self, disconnects: Disconnects) -> None:
        self._disconnects = disconnects

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        self._disconnects.begin_stop()


def _set_gauges(tasks: BackgroundTasks, recorder: UsageRecorder, routes: RouteCache) -> None:
    IN_FLIGHT.set_function(lambda: len(tasks))
    DETACHED.set_function(lambda: tasks.detached)
    USAGE_RETRYING.set_function(lambda: recorder.retrying)
    ROUTES_AGE_SECONDS.set_function(lambda: routes.age_seconds)


def _routes_loaded(routes: RouteCache) -> Callable[[], Awaitable[object]]:
    async def loaded() -> object:
        return routes.table()

    return loaded


async def _reseal(settings: Settings) -> int:
    """Bring all that is sealed to the first keys."""
    done = await reseal(settings.postgres, settings.upstreams)
    if settings.webhooks.secret_keys:
        sys.stdout.write(await reseal_secrets(settings.postgres, settings.webhooks))
    return done


def main() -> NoReturn:
    command_line(
        Service(
            name="orchestrator",
            settings=Settings,
            build=with_builder(build),
            schema="orchestration",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={
                "route": Command(
                    HELP,
                    lambda settings, arguments: edit_routes(settings.postgres, settings.postgres.owner_dsn, arguments),
                    add_route_arguments,
                ),
                "reseal": Command(RESEAL_HELP, lambda settings, _: _reseal(settings)),
                "topics": Command(
                    TOPICS_HELP, lambda read, given: create_topics(read.kafka, given), add_topics_arguments
                ),
            },
            description="Prepares, runs and settles inference requests.",
        )
    )
