"""Wires upstreams."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.grpc import Channel, Registration
from chassis.lifecycle import Component
from chassis.postgres import Database

from orchestrator.configuration.main import ConfigurationLog
from orchestrator.configuration.model import ConfigurationKind
from orchestrator.routing.postgres import models_of_upstream
from orchestrator.upstreams.cache import UpstreamCache
from orchestrator.upstreams.grpc import StopWatches, UpstreamServicer, UpstreamWatchServicer, registrations
from orchestrator.upstreams.manage import ManageUpstreams
from orchestrator.upstreams.postgres import PostgresUpstreamStore
from orchestrator.upstreams.settings import UpstreamsSection
from orchestrator.upstreams.vault import Vault
from orchestrator.upstreams.worker_client import UpstreamWorkers


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstreams:
    """What `main` serves, and what features read."""

    cache: UpstreamCache
    registrations: Sequence[Registration]
    stop_watches: Component
    """Goes after the gRPC server, which waits for its calls."""


async def build_upstreams(
    section: UpstreamsSection, configuration: ConfigurationLog, database: Database, clock: Clock, worker: Channel
) -> Upstreams:
    """Read the upstreams; the feed of the configuration keeps them current."""
    store = PostgresUpstreamStore(database, configuration.log, Vault(section.keys()), models_of_upstream)
    cache = UpstreamCache(store)
    configuration.feed.on_change("upstreams", cache.refresh)
    # Credentials have no restorer: a rollback must not undo a revocation.
    configuration.restorers[ConfigurationKind.UPSTREAM] = store
    # Workers call as soon as the port is open. When the upstreams cannot be read now, the feed retries.
    with suppress(ArgosyError):
        await cache.refresh()
    manage = ManageUpstreams(store, cache, clock, frozenset(section.allowed_hosts))
    return Upstreams(
        cache=cache,
        registrations=registrations(
            UpstreamServicer(manage, UpstreamWorkers(worker).describe), UpstreamWatchServicer(cache)
        ),
        stop_watches=StopWatches(cache),
    )
