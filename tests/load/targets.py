"""The ways to a model that are compared: straight to the upstream, through the fleet, through something else."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from tests.load.watch import SERVICES, Group
from tests.load.world import WORDS, World

DRAIN_SECONDS = 60.0
_LEFT = (
    "SELECT (SELECT count(*) FROM orchestration.outbox) "
    "+ (SELECT count(*) FROM metering.reservations WHERE state = 'held')"
)


@dataclass(frozen=True, slots=True)
class Way:
    """How requests of a mode get to the upstream, and which processes pay for it."""

    name: str
    port: int
    path: Callable[[str], str]
    """The path to ask for an answer of this mode."""
    keys: tuple[str, ...]
    groups: Callable[[], list[Group]]
    """Everything that takes part."""
    subjects: tuple[str, ...] = ()
    """The groups that are measured, as against those around them."""
    settle: Callable[[], float] = lambda: 0.0
    """Wait until work that was put off is done; say how many seconds that took."""


def direct(world: World) -> Way:
    """Straight to the upstream: what no gateway can be faster than."""
    return Way(
        "direct", world.upstream_port, world.direct, (), lambda: [g for g in world.groups() if g.name == "upstream"]
    )


def fleet(world: World, keys: tuple[str, ...] = ()) -> Way:
    """Through all five services."""
    return Way(
        name="fleet",
        port=world.gateway_port,
        path=lambda _: WORDS,
        keys=keys or (world.api_key,),
        groups=world.groups,
        subjects=SERVICES,
        settle=lambda: asyncio.run(_settled(world.postgres_dsn)),
    )


async def _settled(dsn: str) -> float:
    """Wait until every usage event is published and every reservation settled."""
    began = time.monotonic()
    connection = await asyncpg.connect(dsn)
    try:
        while await connection.fetchval(_LEFT):
            if time.monotonic() - began > DRAIN_SECONDS:
                raise SystemExit(f"bench: usage was not settled {DRAIN_SECONDS:.0f} s after the load")
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
    return time.monotonic() - began
