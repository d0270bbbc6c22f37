"""Wires what operators change while the fleet runs, and their commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from chassis.aio import periodic
from chassis.errors import ArgosyError
from chassis.grpc import Channel, Registration
from chassis.ids import new_id
from chassis.lifecycle import Component, Loop, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import EX_CONFIG, PostgresSection, RedisSection
from pydantic import SecretStr

from orchestrator.administration.grpc import RouteServicer, registration
from orchestrator.administration.peers_client import PeerFacts
from orchestrator.configuration.main import build_configuration
from orchestrator.configuration.model import ConfigurationKind
from orchestrator.configuration.postgres import PostgresConfiguration, announce_nothing
from orchestrator.flags.edit import KnownNames
from orchestrator.flags.main import build_flags
from orchestrator.flags.snapshot import FlagCache
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.cli import run_route_command
from orchestrator.routing.document import document_to_capabilities
from orchestrator.routing.manage import ManageRoutes
from orchestrator.routing.postgres import PostgresRouteStore, models_of_upstream
from orchestrator.routing.redis import RedisScores
from orchestrator.routing.schedule import SHARE_INTERVAL, ScoreSharing, refresh_once
from orchestrator.upstreams.cli import run_reseal
from orchestrator.upstreams.main import build_upstreams
from orchestrator.upstreams.postgres import PostgresUpstreamStore
from orchestrator.upstreams.settings import UpstreamsSection
from orchestrator.upstreams.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What `main` serves, and what requests read."""

    routes: RouteCache
    flags: FlagCache
    registrations: Sequence[Registration]
    components: Sequence[Component]
    stop_watches: Component
    """Goes after the gRPC server, which waits for its calls."""


async def build_administration(
    service: ServiceBuilder,
    database: Database,
    worker: Channel,
    metering: Channel,
    *,
    redis: RedisSection,
    upstreams: UpstreamsSection,
    poll_interval: timedelta,
) -> Administration:
    configuration = await build_configuration(service, database, redis, poll_interval)
    declared = await build_upstreams(upstreams, configuration, database, service.clock, worker)
    store = PostgresRouteStore(database, configuration.log)
    routes = RouteCache(store, service.clock)
    configuration.feed.on_change("routes", routes.refresh)

    async def refresh_capabilities() -> None:
        """Follow the refresh of the upstreams, which was registered before."""
        routes.set_capabilities({name: document_to_capabilities(one) for name, one in declared.cache.capabilities()})

    configuration.feed.on_change("capabilities", refresh_capabilities)
    configuration.restorers[ConfigurationKind.ROUTE] = store

    async def known_names() -> KnownNames:
        """Return what flags can name, with what another replica has just put in force."""
        with suppress(ArgosyError):
            await refresh_once(routes)
            await declared.cache.refresh()
        table = routes.table()
        return KnownNames(table.models(), table.upstreams() | declared.cache.names())

    flags = await build_flags(configuration, database, known_names)
    manage = ManageRoutes(store, routes, PeerFacts(worker, metering, declared.cache))
    routing = registration(RouteServicer(manage, flags.cache, service.clock))
    return Administration(
        routes=routes,
        flags=flags.cache,
        registrations=(routing, configuration.registration, flags.registration, *declared.registrations),
        components=(*configuration.components, flags.loaded, *await share_scores(service, redis, routes)),
        stop_watches=declared.stop_watches,
    )


async def share_scores(service: ServiceBuilder, redis: RedisSection, routes: RouteCache) -> Sequence[Component]:
    """Let replicas learn from each other how fast candidates answer."""
    channel = RedisScores(await service.redis(redis))
    sharing = ScoreSharing(routes.scores, channel, new_id("orchestrator_"))
    return channel.subscription(sharing.receive), Loop("scores", periodic(SHARE_INTERVAL, sharing.share, "scores"))


async def edit_routes(postgres: PostgresSection, owner_dsn: SecretStr | None, arguments: argparse.Namespace) -> int:
    """Set, list or remove routes as the schema's owner. Running processes reload them at their next poll."""
    if owner_dsn is None:
        sys.stderr.write("ORCHESTRATOR_POSTGRES__OWNER_DSN is required to edit routes, and not set.\n")
        return EX_CONFIG
    section = postgres.model_copy(update={"dsn": owner_dsn, "pool_size": 1})
    async with Database(section, "orchestrator") as database:
        store = PostgresRouteStore(database, PostgresConfiguration(database, announce_nothing))
        sys.stdout.write(await run_route_command(store, arguments))
    return 0


async def reseal(postgres: PostgresSection, upstreams: UpstreamsSection) -> int:
    """Wrap the data keys of credentials anew. Running processes see it at their next poll."""
    async with Database(postgres.model_copy(update={"pool_size": 1}), "orchestrator") as database:
        log = PostgresConfiguration(database, announce_nothing)
        store = PostgresUpstreamStore(database, log, Vault(upstreams.keys()), models_of_upstream)
        sys.stdout.write(await run_reseal(store))
    return 0
