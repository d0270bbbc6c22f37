"""Wires what operators change while the fleet runs, and their commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.grpc import Registration
from chassis.lifecycle import Component, ServiceBuilder
from chassis.postgres import Database
from chassis.settings import EX_CONFIG, PostgresSection, RedisSection
from pydantic import SecretStr

from orchestrator.configuration.main import build_configuration
from orchestrator.configuration.postgres import PostgresConfiguration
from orchestrator.flags.edit import KnownNames
from orchestrator.flags.main import build_flags
from orchestrator.flags.snapshot import FlagCache
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.cli import run_route_command
from orchestrator.routing.postgres import PostgresRouteStore, models_of_upstream
from orchestrator.upstreams.cli import run_reseal
from orchestrator.upstreams.main import build_upstreams
from orchestrator.upstreams.postgres import PostgresUpstreamStore
from orchestrator.upstreams.settings import UpstreamsSection
from orchestrator.upstreams.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """What `main` serves, and what requests read."""

    flags: FlagCache
    registrations: Sequence[Registration]
    components: Sequence[Component]
    stop_watches: Component
    """Goes after the gRPC server, which waits for its calls."""


async def build_administration(
    service: ServiceBuilder,
    database: Database,
    routes: RouteCache,
    *,
    redis: RedisSection,
    upstreams: UpstreamsSection,
    poll_interval: timedelta,
) -> Administration:
    configuration = await build_configuration(service, database, redis, poll_interval)
    declared = await build_upstreams(upstreams, configuration, database, service.clock)

    def known_names() -> KnownNames:
        """What flags can name."""
        table = routes.table()
        return KnownNames(table.models(), table.upstreams() | declared.cache.names())

    flags = await build_flags(configuration, database, known_names)
    return Administration(
        flags=flags.cache,
        registrations=(configuration.registration, flags.registration, *declared.registrations),
        components=(*configuration.components, flags.loaded),
        stop_watches=declared.stop_watches,
    )


async def edit_routes(postgres: PostgresSection, owner_dsn: SecretStr | None, arguments: argparse.Namespace) -> int:
    """Set, list or remove routes as the schema's owner. Running processes reload them at their next poll."""
    if owner_dsn is None:
        sys.stderr.write("ORCHESTRATOR_POSTGRES__OWNER_DSN is required to edit routes, and not set.\n")
        return EX_CONFIG
    section = postgres.model_copy(update={"dsn": owner_dsn, "pool_size": 1})
    async with Database(section, "orchestrator") as database:
        sys.stdout.write(await run_route_command(PostgresRouteStore(database), arguments))
    return 0


async def reseal(postgres: PostgresSection, upstreams: UpstreamsSection) -> int:
    """Wrap the data keys of credentials anew. Running processes see it at their next poll."""
    async with Database(postgres.model_copy(update={"pool_size": 1}), "orchestrator") as database:
        log = PostgresConfiguration(database, _announce_nothing)
        store = PostgresUpstreamStore(database, log, Vault(upstreams.keys()), models_of_upstream)
        sys.stdout.write(await run_reseal(store))
    return 0


async def _announce_nothing(_: int) -> None:
    """Do nothing: a change that is not announced is found by polling."""
