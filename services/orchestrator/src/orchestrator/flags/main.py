"""Wires flags."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from chassis.errors import ArgosyError
from chassis.grpc import Registration
from chassis.lifecycle import Check
from chassis.postgres import Database

from orchestrator.configuration.main import ConfigurationLog
from orchestrator.configuration.model import ConfigurationKind
from orchestrator.flags.edit import KnownNames
from orchestrator.flags.grpc import FlagServicer, registration
from orchestrator.flags.manage import ManageFlags
from orchestrator.flags.postgres import PostgresFlagStore
from orchestrator.flags.snapshot import FlagCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What `main` serves and checks, and what features read."""

    cache: FlagCache
    registration: Registration
    loaded: Check


async def build_flags(
    configuration: ConfigurationLog, database: Database, known: Callable[[], Awaitable[KnownNames]]
) -> Flags:
    """Read the flags; the feed of the configuration keeps them current."""
    store = PostgresFlagStore(database, configuration.log)
    cache = FlagCache(store)
    configuration.feed.on_change("flags", cache.refresh)
    configuration.restorers[ConfigurationKind.FLAG] = store
    # Peers call as soon as the port is open. When the flags cannot be read now, the feed retries.
    with suppress(ArgosyError):
        await cache.refresh()

    async def loaded() -> object:
        return cache.snapshot()

    return Flags(
        cache=cache,
        registration=registration(FlagServicer(ManageFlags(store, configuration.log, cache, known))),
        loaded=Check("flags", loaded),
    )
