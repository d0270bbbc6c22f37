"""The orchestrator, put together."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from chassis.clock import SystemClock
from chassis.errors import ArgosyError
from chassis.grpc import Channel, GrpcServer
from chassis.kafka import OutboxRelay, Publisher
from chassis.lifecycle import Check, Command, Component, Loop, Service, command_line
from chassis.postgres import Database
from chassis.settings import EX_CONFIG
from chassis.telemetry import Telemetry, logger
from chassis.tenancy import PrincipalVerifier

from orchestrator.adapters.bodies import OrjsonBodies
from orchestrator.adapters.gathered import Gathered
from orchestrator.adapters.metering import GrpcMetering
from orchestrator.adapters.postgres import PostgresRouteBook, PostgresRouteEditor, PostgresUsageLog
from orchestrator.adapters.retrieval import GrpcRetrieval
from orchestrator.adapters.routes import CachedRoutes
from orchestrator.adapters.worker import GrpcWorker
from orchestrator.api.route_command import HELP, edit_routes, route_arguments
from orchestrator.api.servicer import OrchestrationServicer, registration
from orchestrator.domain.embed import Embeddings
from orchestrator.domain.generate import Generations
from orchestrator.domain.record import Recorder
from orchestrator.domain.reserve import Reserves
from orchestrator.domain.tasks import Tasks
from orchestrator.metrics import DETACHED, IN_FLIGHT, OUTBOX_PENDING, ROUTES_AGE_SECONDS, UNWRITTEN
from orchestrator.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"

# Of the drain: the rest is for the accounts of those that had to be hung up on, and for the relay's last look.
ANSWERING_SHARE = 0.6

# What came in meanwhile is published together, and settled together by metering; nobody waits for a settlement.
PUBLISH_AFTER = timedelta(milliseconds=100)

log = logger("orchestrator")


@asynccontextmanager
async def build(settings: Settings, _: Telemetry) -> AsyncIterator[Sequence[Component]]:
    """Open the clients and yield what runs.

    The server comes last, so it is the first to stop; what it leaves behind is awaited next, and the relay publishes
    what that wrote.
    """
    clock, policy = SystemClock(), settings.policy()
    async with AsyncExitStack() as clients:
        database = await clients.enter_async_context(Database(settings.postgres, "orchestrator"))
        publisher = await clients.enter_async_context(Publisher(settings.kafka.bootstrap))
        targets = settings.targets
        worker = GrpcWorker(await clients.enter_async_context(Channel(targets.worker, "the inference worker")))
        metering = GrpcMetering(await clients.enter_async_context(Channel(targets.metering, "metering")))
        retrieval = GrpcRetrieval(await clients.enter_async_context(Channel(targets.retrieval, "retrieval")))

        relay = OutboxRelay(database, publisher)
        usage_log = PostgresUsageLog(database, on_written=Gathered(relay.wake, PUBLISH_AFTER))
        tasks = Tasks(settings.limits.in_flight, _report)
        recorder = Recorder(usage_log, tasks, settings.times.record)
        reserves = Reserves(metering=metering, recorder=recorder, tasks=tasks, policy=policy)
        routes = CachedRoutes(PostgresRouteBook(database), settings.times.routes_refresh, clock)
        servicer = OrchestrationServicer(
            generations=Generations(
                routes=routes,
                bodies=OrjsonBodies(),
                retrieval=retrieval,
                reserves=reserves,
                worker=worker,
                recorder=recorder,
                tasks=tasks,
                clock=clock,
                policy=policy,
            ),
            embeddings=Embeddings(
                routes=routes,
                reserves=reserves,
                worker=worker,
                recorder=recorder,
                tasks=tasks,
                clock=clock,
                policy=policy,
            ),
            routes=routes,
        )
        _watch(tasks, recorder, routes)
        # Peers call as soon as the port is open. Where the routes cannot be read now, `keep_fresh` tries again.
        with suppress(ArgosyError):
            await routes.refresh()
        yield [
            Check("postgres", database.ping),
            relay,
            Loop("outbox-count", _counting(usage_log, settings.times.outbox_look)),
            Loop("route-refresh", routes.keep_fresh),
            Check("routes", _known(routes)),
            Drain(tasks),
            _server(settings, servicer, clock),
        ]


class Drain:
    """Waits at the end for what outlives its call: accounts of clients that went away, usage not written yet."""

    name = "drain"

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def start(self) -> None:
        """Do nothing: work begins with a request."""

    async def stop(self) -> None:
        """Wait until nothing runs; what the lifecycle cuts off is left to the leases of its reservations."""
        await self._tasks.idle()


def _server(settings: Settings, servicer: OrchestrationServicer, clock: SystemClock) -> GrpcServer:
    return GrpcServer(
        settings.grpc.bind,
        [registration(servicer)],
        PrincipalVerifier([secret.get_secret_value() for secret in settings.principal.secrets], clock),
        clock,
        grace=settings.drain * ANSWERING_SHARE,
    )


def _watch(tasks: Tasks, recorder: Recorder, routes: CachedRoutes) -> None:
    IN_FLIGHT.set_function(lambda: len(tasks))
    DETACHED.set_function(lambda: tasks.left)
    UNWRITTEN.set_function(lambda: recorder.waiting)
    ROUTES_AGE_SECONDS.set_function(lambda: routes.age_seconds)


def _counting(usage_log: PostgresUsageLog, pause: timedelta) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def count(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                OUTBOX_PENDING.set(await usage_log.pending())
            except ArgosyError as error:
                # The metric keeps its last value: a broken source is no zero.
                log.warning("outbox_not_counted", error=error.message)
            try:
                async with asyncio.timeout(pause.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue

    return count


def _known(routes: CachedRoutes) -> Callable[[], Awaitable[object]]:
    async def known() -> object:
        return routes.table()

    return known


def _report(error: BaseException) -> None:
    log.error("task_broke", exc_info=error)


async def route(settings: Settings, words: argparse.Namespace) -> int:
    """Do what an operator wants done to the routes; every process sees it at its next look."""
    if settings.postgres.owner_dsn is None:
        sys.stderr.write("ORCHESTRATOR_POSTGRES__OWNER_DSN is required to see to routes, and not set.\n")
        return EX_CONFIG
    section = settings.postgres.model_copy(update={"dsn": settings.postgres.owner_dsn, "pool_size": 1})
    async with Database(section, "orchestrator") as database:
        sys.stdout.write(await edit_routes(PostgresRouteEditor(database), words))
    return 0


def main() -> NoReturn:
    """Run the command line."""
    command_line(
        Service(
            name="orchestrator",
            settings=Settings,
            build=build,
            schema="orchestration",
            migrations=MIGRATIONS,
            postgres=lambda settings: settings.postgres,
            commands={"route": Command(HELP, route, route_arguments)},
            description="The life of a request: prepare, infer, finalize.",
        )
    )
