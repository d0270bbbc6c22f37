"""The compared targets: the upstream directly, the fleet, another proxy."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from tests.load.bench_fleet import WORDS, BenchFleet
from tests.load.watch import SERVICES, Group

DRAIN_SECONDS = 60.0
_LEFT = (
    "SELECT (SELECT count(*) FROM orchestration.outbox) "
    "+ (SELECT count(*) FROM metering.reservations WHERE state = 'held')"
)


@dataclass(frozen=True, slots=True)
class Target:
    """How requests of a mode get to the upstream, and the processes that handle them."""

    name: str
    port: int
    path: Callable[[str], str]
    """The request path for a mode."""
    keys: tuple[str, ...]
    groups: Callable[[], list[Group]]
    """All processes."""
    subjects: tuple[str, ...] = ()
    """The measured groups."""
    settle: Callable[[], float] = lambda: 0.0
    """Wait until deferred work is done; return the seconds."""


def direct(bench_fleet: BenchFleet) -> Target:
    """The upstream directly: the lower bound for any gateway."""
    return Target(
        "direct",
        bench_fleet.upstream_port,
        bench_fleet.direct,
        (),
        lambda: [g for g in bench_fleet.groups() if g.name == "upstream"],
    )


def fleet(bench_fleet: BenchFleet, keys: tuple[str, ...] = ()) -> Target:
    """Through all five services."""
    return Target(
        name="fleet",
        port=bench_fleet.gateway_port,
        path=lambda _: WORDS,
        keys=keys or (bench_fleet.api_key,),
        groups=bench_fleet.groups,
        subjects=SERVICES,
        settle=lambda: asyncio.run(_settled(bench_fleet.postgres_dsn)),
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
